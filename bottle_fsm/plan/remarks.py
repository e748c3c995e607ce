"""Remarks on a reach: rules that do nothing, or not what they seem to. Pure; none of them keeps a bottle from starting.

One rule holds for a host and port, the nearest one: an exact name before a wildcard, a longer wildcard before a
shorter. Nothing is added up, so a rule is never hidden by a looser one; but it may say nothing new, or take the place
of another without its author's knowing. Not its duty: what is wrong in itself (`manifest`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from bottle_fsm.egress import rule as egress
from bottle_fsm.errors import Problem
from bottle_fsm.manifest.env import Place
from bottle_fsm.manifest.reach import Reach, Rule
from bottle_fsm.manifest.spec import BottleSpec
from bottle_fsm.model import Json
from bottle_fsm.pathglob import glob_covers
from bottle_fsm.plan.providers import PROVIDERS, Provider
from bottle_fsm.plan.rules import entry_of, provider_entries

_OTHERS: Final = {
    21: "FTP", 22: "ssh", 23: "telnet", 25: "SMTP", 53: "DNS", 110: "POP3", 143: "IMAP", 389: "LDAP", 3306: "MySQL",
    5432: "PostgreSQL", 6379: "Redis", 9418: "git", 27017: "MongoDB",
}  # fmt: skip
"""Ports at which nobody expects HTTP; a rule lets nothing but HTTP pass, inside TLS everywhere but at port 80."""
_RELATIONS: Final = {
    (True, False): "is looser",
    (False, True): "is stricter",
    (True, True): "allows other requests",
    (False, False): "differs in what else it says",
}


def remarks(spec: BottleSpec, place: Place) -> list[Problem]:
    """Return what a person should know of a bottle's rules, each with its place; empty when there is nothing.

    Args:
        spec: the bottle; one that was not validated has no rules to look at.
        place: names the place of a key path, with its line where the manifest was just read.
    """
    agent, reach = spec.agent_model, spec.reach
    if agent is None or reach is None:
        return []
    look = _Look(reach, PROVIDERS[agent.provider], partial(place, "bottles", agent.bottle, "egress"))
    found = [remark for index, rule in enumerate(reach.egress.allow) for remark in look.rule(index, rule)]
    return [*found, *look.static_names()]


class _Look:
    """The look at one reach."""

    def __init__(self, reach: Reach, provider: Provider, where: Place) -> None:
        self._reach = reach
        self._provider = provider
        self._where = where

    def rule(self, index: int, rule: Rule) -> Iterator[Problem]:
        """Look at one rule."""
        place = self._where("allow", index)
        for problem, hint in (*self._beside_provider(rule), *self._beside_others(rule), *_of_itself(rule)):
            yield Problem(place, problem, hint)
        globs = rule.paths or ()
        for number, glob in enumerate(globs):
            for other_number, other in enumerate(globs):
                if number != other_number and glob_covers(other, glob) and (glob != other or other_number < number):
                    problem = f"the path `{glob}` adds nothing to `{other}`"
                    yield Problem(self._where("allow", index, "paths", number), problem, "Remove it")
                    break

    def static_names(self) -> Iterator[Problem]:
        """Look at static names that nothing leads to."""
        rules = self._reach.egress.allow
        named = {*self._provider.hosts, *(entry.host for entry in self._reach.ssh)}
        for name in self._reach.egress.hosts:
            if name not in named and not any(_covers(rule, name, rule.port) for rule in rules):
                problem = f"no rule allows `{name}`, so its address is never used"
                yield Problem(self._where("hosts", name), problem, "Allow the name, or remove it")

    def _beside_provider(self, rule: Rule) -> Iterator[tuple[str, str]]:
        if rule.port != egress.HTTPS_PORT:
            return
        name = self._provider.name
        provided = next((e for e in provider_entries(self._provider.hosts) if e["host"] == rule.host), None)
        if provided is not None and entry_of(rule, provided) == provided:
            problem = f"provider {name} needs `{rule.host}:{rule.port}`, and it is allowed without this rule"
            yield problem, "Remove it"
        own = {other.host for other in self._reach.egress.allow if other.port == egress.HTTPS_PORT}
        covered = [h for h in self._provider.hosts if h not in own and _covers(rule, h, rule.port)]
        if covered and (rule.methods or rule.paths):
            problem = f"its limits do not hold for {', '.join(f'`{host}`' for host in covered)}"
            yield f"{problem}: provider {name} has a rule of its own for that", "Limit the name in a rule of its own"

    def _beside_others(self, rule: Rule) -> Iterator[tuple[str, str]]:
        """Compare a rule with the wildcard that would hold in its place."""
        apex = rule.host.removeprefix("*.")
        wider = [
            other
            for other in self._reach.egress.allow
            if other.host.startswith("*.") and _covers(other, apex, rule.port)
        ]
        if not wider:
            return
        other = max(wider, key=lambda candidate: len(candidate.host))
        mine, theirs = _wishes(rule), _wishes(other)
        names = f"`{rule.host}:{rule.port}`", f"`{other.host}:{other.port}`"
        if mine == theirs and rule.inject == other.inject:
            yield f"{names[0]} says the same as {names[1]}, which covers it", "Remove it"
            return
        relation = _RELATIONS[not _within(mine, theirs), not _within(theirs, mine)]
        yield f"{names[0]} takes the place of {names[1]} and {relation}", "Nothing is added up: the nearest rule holds"


def _of_itself(rule: Rule) -> Iterator[tuple[str, str]]:
    if rule.port in _OTHERS:
        hint = "Name the host under `ssh`" if _OTHERS[rule.port] == "ssh" else "Give the port that speaks HTTPS"
        yield f"port {rule.port} is that of {_OTHERS[rule.port]}, but only HTTPS passes by a rule", hint


def _covers(rule: Rule, host: str, port: int) -> bool:
    return egress.Rule(rule.host, rule.port, "https").covers(host, port)


def _wishes(rule: Rule) -> Json:
    """Return what a rule says itself beyond host and port."""
    return {name: value for name, value in entry_of(rule).items() if name not in {"host", "port"}}


def _within(wishes: Json, others: Json) -> bool:
    """Tell whether the methods and paths that one rule allows are all allowed by another."""
    methods, other_methods = wishes.get("methods"), others.get("methods")
    paths, other_paths = wishes.get("paths"), others.get("paths")
    by_method = other_methods is None or (methods is not None and set(methods) <= set(other_methods))
    by_path = other_paths is None or (
        paths is not None and all(any(glob_covers(other, glob) for other in other_paths) for glob in paths)
    )
    return by_method and by_path
