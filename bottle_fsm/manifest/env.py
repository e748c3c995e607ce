"""The bottle's environment, resolved from the host's: literals now, secrets as sources that are fetched when needed.

Pure: the host's environment and the terminal come in as arguments. Not its duty: carrying values into a bottle.

A value that comes from the host is not secret by itself: `EDITOR: "${EDITOR}"` shows in the plan. Only `secret: true`
and questions (`?text`) make one secret, and then its value is never part of what `resolve_env` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bottle_fsm.errors import DecisionNeededError, Problem
from bottle_fsm.manifest import template
from bottle_fsm.manifest.model import EnvValue, Reach
from bottle_fsm.places import MIN_SECRET_BYTES
from bottle_fsm.secret import Secret
from bottle_fsm.yamlfile import Key, key_text

Place = Callable[..., str]
"""Maps the keys of a key path to the place that a message names."""
Ask = Callable[[str], str]
"""Asks a question on the terminal, without echo, and returns the answer."""

_MAX_VALUE: Final = 64 * 1024
"""Bytes; Linux takes no environment variable beyond 128 KiB."""


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where a secret comes from and where it may go; never the value.

    Attributes:
        name: the variable in the bottle. origin: the manifest's text, `${NAME}` in it, or the question after `?`.
        asked: the origin is a question. to: hosts that the secret may be sent to.
    """

    name: str
    origin: str
    asked: bool
    to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ResolvedEnv:
    """What `resolve_env` found; with problems, the variables concerned are left out."""

    literals: Mapping[str, str]
    secrets: Mapping[str, SecretSource]
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


def resolve_env(reach: Reach, environ: Mapping[str, str], *, place: Place | None = None) -> ResolvedEnv:
    """Resolve a reach's environment against the host's.

    Args:
        reach: the reach.
        environ: the host's environment.
        place: names the place of a key path that begins with `env`.
    """
    where = place or _plain_place
    literals: dict[str, str] = {}
    secrets: dict[str, SecretSource] = {}
    problems: list[Problem] = []
    warnings: list[str] = []
    for name, value in reach.env.items():
        trouble = _troubles(value, environ)
        problems += [Problem(where("env", name), problem, hint) for problem, hint in trouble]
        if trouble:
            continue
        if not value.secret:
            literals[name] = template.fill(value.from_, environ)
            continue
        secrets[name] = secret_source(name, value)
        if value.question is None and _too_short(template.fill(value.from_, environ)):
            warnings.append(short_secret_warning(name))
    return ResolvedEnv(literals, secrets, tuple(problems), tuple(warnings))


def secret_source(name: str, value: EnvValue) -> SecretSource:
    """Return the source of a variable that is secret."""
    return SecretSource(
        name=name,
        origin=value.from_ if value.question is None else value.question,
        asked=value.question is not None,
        to=value.to,
    )


def fetch_secret(source: SecretSource, environ: Mapping[str, str], ask: Ask | None) -> Secret:
    """Return a secret's value, from the host's environment or from the terminal.

    Args:
        source: where it comes from.
        environ: the host's environment.
        ask: asks on the terminal; None when there is no terminal.

    Raises:
        DecisionNeededError: the value is not to be had now; names the variable.
    """
    if source.asked:
        return _asked(source, ask)
    missing = [v.name for v in template.variables(source.origin) if not environ.get(v.name)]
    if missing:
        raise DecisionNeededError(
            f"the secret `{source.name}` needs the host variable `{missing[0]}`, which is not set or empty",
            place=f"env/{source.name}",
            hint=f"Set {missing[0]} and run the same command again",
        )
    return Secret(_checked(source, template.fill(source.origin, environ)))


def short_secret_warning(name: str) -> str:
    """Return the warning about a secret that is too short to be looked for in requests."""
    return (
        f"the secret `{name}` is shorter than {MIN_SECRET_BYTES} bytes: "
        "it is kept out of records, but too short to be looked for in requests"
    )


def _asked(source: SecretSource, ask: Ask | None) -> Secret:
    if ask is None:
        raise DecisionNeededError(
            f"the secret `{source.name}` is asked for on the terminal, and there is none",
            place=f"env/{source.name}",
            hint='Run it on a terminal, or take the value from the host: {from: "${NAME}", secret: true}',
        )
    answer = ask(source.origin).rstrip("\r\n")
    if not answer:
        raise DecisionNeededError(
            f"no value was given for the secret `{source.name}`",
            place=f"env/{source.name}",
            hint="Run the same command again and answer the question",
        )
    return Secret(_checked(source, answer))


def _checked(source: SecretSource, value: str) -> str:
    objection = _objection(value)
    if objection is None:
        return value
    raise DecisionNeededError(
        f"the value of the secret `{source.name}` {objection}",
        place=f"env/{source.name}",
        hint="Give another value",
    )


def _troubles(value: EnvValue, environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return problem and hint of everything that keeps a value from being resolved on this host."""
    if value.question is not None:
        return []
    missing = list(template.undefined(value.from_, environ))
    if value.secret:
        missing = [v.name for v in template.variables(value.from_) if not environ.get(v.name)]
    if missing:
        return [_missing(name, secret=value.secret) for name in missing]
    objection = _objection(template.fill(value.from_, environ))
    return [] if objection is None else [(f"the value {objection}", "Give another value")]


def _missing(name: str, *, secret: bool) -> tuple[str, str]:
    if secret:
        return f"the host variable `{name}` is not set or empty", "Set it"
    return f"the host variable `{name}` is not set", f"Set it, or write ${{{name}:-default}}"


def _objection(value: str) -> str | None:
    if "\0" in value:
        return "holds a NUL character"
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return "is not UTF-8 text"
    return f"is longer than {_MAX_VALUE} bytes" if size > _MAX_VALUE else None


def _too_short(value: str) -> bool:
    return len(value.encode()) < MIN_SECRET_BYTES


def _plain_place(*keys: Key) -> str:
    return key_text(keys)
