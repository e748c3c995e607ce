"""The secrets that a bottle was told, and whether any of them is in a request: a tripwire, not proof.

Seen is a secret as it is; in base64 (any alignment and alphabet, with or without padding), base32, hexadecimal or
decimal numbers; escaped as in URLs, forms, JSON, YAML and HTML; in UTF-16; parted by white space, quotes or anything
else that is neither letter nor digit; inside up to three such encodings in any mix and one layer of compression (see
`views`).

Not seen, because no list of encodings is complete:
- what is encrypted, reversed, rotated, base85, base58 or uuencoded, or hidden in the bits of an image;
- a part of a secret, or one spread over several requests or fields, or parted by letters or digits;
- a secret changed in case or to look-alikes of Unicode, or one that the server already has under another name;
- compression other than gzip, zlib and deflate, a second layer of it, a stream that starts inside something else (zip
  archives, packs of git, images, documents) or directly behind other letters, and what a damaged stream would give;
- base64 or base32 around another encoding, parted by more than line breaks; such base32 in small letters without a
  digit;
- two encodings of one level mixed so that a soft line break or an escape cuts the other in two;
- secrets with bytes from 0x80 on, where only some of those bytes are escaped.

Pure, standard library only. Not its duty: asking the guard, or what becomes of a request.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bottle_fsm.egress.decoders import unescape
from bottle_fsm.egress.hosts import normalise_host
from bottle_fsm.egress.known_forms import host_forms, literal_forms, only_alnum, without_space
from bottle_fsm.egress.known_mask import Mask
from bottle_fsm.egress.needles import NeedleIndex
from bottle_fsm.egress.policy import HTTPS_PORT, Rule
from bottle_fsm.egress.views import decoded_views
from bottle_fsm.places import MIN_SECRET_BYTES

MAX_STREAMED: Final = 1024
"""Bytes of a form that a search in a stream looks for, so that it never holds back more."""
_Reading = Callable[[bytes], bytes]
_READINGS: Final[tuple[_Reading, ...]] = (only_alnum, without_space, bytes)


@dataclass(frozen=True, slots=True)
class KnownSecret:
    """One secret of the bottle.

    Attributes:
        name: what logs and markers call it.
        value: its bytes; never in `repr`. White space around them is no part of it.
        to: canonical host patterns where it may go, `host` or `*.suffix`; the apex is not in a wildcard.
    """

    name: str
    value: bytes = field(repr=False)
    to: tuple[str, ...]

    def may_go(self, host: str) -> bool:
        """Tell whether a canonical host name is one of those where the secret may go."""
        return any(Rule(pattern, HTTPS_PORT, "https").covers(host, HTTPS_PORT) for pattern in self.to)


class KnownSecrets:
    """The secrets of one bottle, prepared for looking. Values shorter than `MIN_SECRET_BYTES` are not looked for.

    A secret that is part of another one is found with it, and then needs the other's hosts in its own `to`.
    """

    def __init__(self, secrets: Sequence[KnownSecret]) -> None:
        """Prepare the search.

        Raises:
            ValueError: two secrets have the same name.
        """
        self._secrets = {secret.name: secret for secret in secrets}
        if len(self._secrets) != len(secrets):
            raise ValueError("two known secrets have the same name")
        literal = {name: literal_forms(secret.value) for name, secret in self._secrets.items()}
        self._sought = frozenset(name for name, forms in literal.items() if forms)
        needles: dict[_Reading, dict[str, set[bytes]]] = {}
        for name in self._sought:
            for reading, needle in _needles(self._secrets[name].value, literal[name]):
                needles.setdefault(reading, {}).setdefault(name, set()).add(needle)
        self._indexes = [(reading, NeedleIndex(_by_form(named))) for reading, named in needles.items()]
        self._host = _by_form({name: host_forms(self._secrets[name].value) for name in self._sought})
        self._masks: dict[str, Mask] = {}
        self._subsets: dict[tuple[str, ...], KnownSecrets] = {}
        starts = {name: {form[:MAX_STREAMED] for form in forms} for name, forms in literal.items()}
        self.literal = NeedleIndex(_by_form(starts))
        """All fixed forms of all secrets, of long ones the start, for a search in a stream."""

    def found(self, data: bytes) -> frozenset[str]:
        """Return the names of the secrets that are in the data, in any form of those in the module's docstring.

        Raises:
            ScanLimitError: the data cannot be looked at within the bounds of `views`: what is in it is not known.
        """
        found: frozenset[str] = frozenset()
        for view in decoded_views(data) if self._sought else ():
            found = found.union(*(index.names(reading(view)) for reading, index in self._indexes))
            if found == self._sought:
                break
        return found

    def found_in_host(self, host: str) -> frozenset[str]:
        """Return the names of the secrets that the labels of a host name carry.

        The labels are joined, from left to right or from right to left; case and hyphens do not matter. Seen are plain
        text, hexadecimal, base32 and base64url, each over the whole secret, not nested, not begun anew in each label.
        """
        labels = host.lower().split(".")
        joined = tuple(only_alnum("".join(order).encode()) for order in (labels, labels[::-1]))
        return frozenset(
            name for form, names in self._host.items() if any(form in text for text in joined) for name in names
        )

    def refused(self, names: Iterable[str], host: str) -> frozenset[str]:
        """Return those of the names that may not go to a host; unknown ones may go nowhere, none to what is no host."""
        try:
            canonical = normalise_host(host)
        except ValueError:
            return frozenset(names)
        return frozenset(
            name for name in names if name not in self._secrets or not self._secrets[name].may_go(canonical)
        )

    def refused_at(self, host: str) -> KnownSecrets:
        """Return only the secrets that may not go to a host, for a search in what is streamed there."""
        names = tuple(sorted(self.refused(self._secrets, host)))
        if names not in self._subsets:
            self._subsets[names] = KnownSecrets([self._secrets[name] for name in names])
        return self._subsets[names]

    def mask(self, data: bytes, names: Collection[str]) -> bytes:
        """Return the data with every form of these secrets that can be replaced replaced by a marker with the name.

        Replaced are the secret as it is, base64 and hexadecimal, each also escaped as in URLs, JSON and HTML or parted
        by white space or separators, and base32 as one piece. What is encoded more than once or compressed cannot be
        replaced, nor, in a secret of more than `known_mask.MAX_FLEXIBLE` bytes, what is escaped or parted unusually.
        The check is to look again: what `found` still finds in the result was not masked. Base64 around a marker is
        no longer base64.
        """
        chosen = [secret for name, secret in self._secrets.items() if name in names and name in self._sought]
        for secret in sorted(chosen, key=lambda secret: len(secret.value), reverse=True):
            if secret.name not in self._masks:
                self._masks[secret.name] = Mask(secret.name, secret.value)
            data = self._masks[secret.name].apply(data)
        return data


def _needles(value: bytes, forms: frozenset[bytes]) -> Iterator[tuple[_Reading, bytes]]:
    """Yield for each form of a secret how data is read to look for it, and what then stands there.

    Data is read with as little as possible between the characters, as long as enough of the form is left.
    """
    opened = (unescape(value.strip()),) if value.isascii() else ()
    for form in (*forms, *opened):
        readings = ((reading, reading(form)) for reading in _READINGS)
        yield from itertools.islice((pair for pair in readings if len(pair[1]) >= MIN_SECRET_BYTES), 1)


def _by_form(named: Mapping[str, Collection[bytes]]) -> dict[bytes, frozenset[str]]:
    forms = {form for those in named.values() for form in those}
    return {form: frozenset(name for name, those in named.items() if form in those) for form in forms}
