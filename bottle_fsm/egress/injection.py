"""Credentials that the interceptor puts into requests, so that an agent uses a secret that it never holds.

The agent holds a placeholder instead. A value goes into one header or one query parameter, of requests to one rule,
over TLS only: never into a body, where a server may store and publish it.
Not its duty: which requests may get one (see `credentials`), and taking echoed values out of answers (see `scrub`).
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args
from urllib.parse import quote, unquote_to_bytes

from bottle_fsm.places import MIN_INJECTED_BYTES

Kind = Literal["header", "bearer", "basic", "query"]
Header = tuple[bytes, bytes]

_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_PARAMETER: Final = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_NOTHING: Final = re.compile("")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_HTTPS: Final = "https://"


@dataclass(frozen=True, slots=True)
class Injection:
    """One value to put into each request that a rule allows.

    Attributes:
        rule: the rule's name, as `policy.Rule.name` gives it.
        kind: what is set: `header` and `query` set the header or parameter `name` to the value; `bearer` and `basic`
            set Authorization, and their `name` is empty.
        value: the whole value; of `basic`: `user:password`, not yet encoded.
        hidden: each secret that the value is made of, with the placeholder that an answer shows in its place; empty
            when all of the value is one secret without a placeholder. A short one, such as a user name, is kept out of
            answers only as a part of the value.

    Raises:
        ValueError: a field makes no sense, such as a value with a line break; the text holds no field's value.
    """

    rule: str
    kind: Kind
    name: str
    value: str = field(repr=False)
    hidden: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise ValueError(f"an injection: {problem}")

    @classmethod
    def from_json(cls, value: Any) -> Injection:
        """Read what `to_json` wrote, strictly: unknown, missing or wrong fields are refused.

        Raises:
            ValueError: it is not exactly an injection; the text holds no field's value.
        """
        if not isinstance(value, dict) or set(value) != {"rule", "kind", "name", "value", "hidden"}:
            raise ValueError("an injection is an object with exactly rule, kind, name, value and hidden")
        pairs = value["hidden"]
        if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):  # noqa: PLR2004 - a pair
            raise ValueError("an injection: hidden is a list of pairs of secret and placeholder")
        hidden = tuple((secret, mark) for secret, mark in pairs)
        return cls(rule=value["rule"], kind=value["kind"], name=value["name"], value=value["value"], hidden=hidden)

    def to_json(self) -> dict[str, Any]:
        """Return the injection as a JSON object, secrets included: for the file on tmpfs and nothing else."""
        return {
            "rule": self.rule,
            "kind": self.kind,
            "name": self.name,
            "value": self.value,
            "hidden": [list(pair) for pair in self.hidden],
        }


def placeholder(bottle: str, launch: str, variable: str) -> str:
    """Return what the agent finds in a variable whose value is injected; it says nothing about that value.

    Args:
        bottle: `<project>/<agent>`.
        launch: id of the launch.
        variable: name of the environment variable.
    """
    digest = hashlib.sha256(json.dumps([bottle, launch, variable]).encode()).hexdigest()
    return f"bottle-placeholder-{re.sub(r'[^a-z0-9_]', '-', variable.lower())}-{digest[:12]}"


def inject(headers: Sequence[Header], path: str, injection: Injection) -> tuple[tuple[Header, ...], str]:
    """Return headers and path of a request with the value in its place, in the place of whatever stood there.

    Args:
        headers: name and value of each header.
        path: the request target in origin form; only the one parameter in its query is touched.
        injection: what to put in.
    """
    if injection.kind == "query":
        return tuple(headers), _with_parameter(path, injection.name, injection.value)
    value = injection.value.encode()
    if injection.kind == "header":
        return _with_header(headers, injection.name.encode(), value), path
    encoded = b"Bearer " + value if injection.kind == "bearer" else b"Basic " + base64.b64encode(value)
    return _with_header(headers, b"Authorization", encoded), path


def _problem(injection: Injection) -> str:
    """Name what is wrong with an injection, or return an empty text."""
    texts = (injection.rule, injection.kind, injection.name, injection.value, *itertools.chain(*injection.hidden))
    if not all(isinstance(text, str) for text in texts):
        return "every field is a text"
    if any(_CONTROL.search(text) for text in texts):
        return "a value holds a line break or another control character"
    named = {"header": _HEADER, "query": _PARAMETER, "bearer": _NOTHING, "basic": _NOTHING}.get(injection.kind)
    secrets = [secret for secret, _ in injection.hidden] or [injection.value]
    checks = (
        (named is None, f"its kind is one of {', '.join(get_args(Kind))}"),
        (not injection.rule.startswith(_HTTPS), "values are put into requests over TLS only"),
        (named is not None and not named.fullmatch(injection.name), "its name does not fit its kind"),
        (injection.kind == "basic" and ":" not in injection.value, "basic wants user and password with a colon"),
        (not all(secret and secret in injection.value for secret in secrets), "its value holds every hidden secret"),
        (not all(mark for _, mark in injection.hidden), "every hidden secret has a placeholder"),
        (not any(can_be_hidden(secret) for secret in secrets), f"a secret has at least {MIN_INJECTED_BYTES} bytes"),
    )
    return next((problem for wrong, problem in checks if wrong), "")


def can_be_hidden(secret: str) -> bool:
    """Tell whether a secret is one that can be told from other text in an answer."""
    return len(secret.encode()) >= MIN_INJECTED_BYTES and bool(secret.strip("*"))


def _with_header(headers: Sequence[Header], name: bytes, value: bytes) -> tuple[Header, ...]:
    """Set a header where it first stood, else at the end; all others of that name go, with underscores or hyphens."""
    same = [_twin(other) == _twin(name) for other, _ in headers]
    at = same.index(True) if True in same else len(headers)
    kept = [header for header, is_same in zip(headers, same, strict=True) if not is_same]
    return (*kept[:at], (name, value), *kept[at:])


def _twin(name: bytes) -> bytes:
    return name.strip().lower().replace(b"_", b"-")


def _with_parameter(path: str, name: str, value: str) -> str:
    """Set a parameter at the end of the query; its other spellings go, each with the separator before it.

    It is not put where it stood: behind a `;`, a server that does not split there would take it for a part of the
    parameter before, such as a text to search for, and show it.
    """
    before, sharp, fragment = path.partition("#")
    base, _, query = before.partition("?")
    pieces = re.split(r"([&;])", query)
    kept: list[str] = []
    for separator, piece in zip(["", *pieces[1::2]], pieces[::2], strict=True):
        if _parameter_name(piece) != name.lower():
            kept.append((separator if kept else "") + piece)
    rest = "".join(kept)
    between = "" if not rest or rest.endswith("&") else "&"
    return f"{base}?{rest}{between}{name}={quote(value, safe='')}{sharp}{fragment}"


def _parameter_name(piece: str) -> str:
    raw = piece.partition("=")[0].replace("+", " ").encode("utf-8", "surrogateescape")
    return unquote_to_bytes(raw).decode("utf-8", "replace").strip().lower()
