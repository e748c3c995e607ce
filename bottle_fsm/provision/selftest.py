"""The egress self-test, from inside the bottle: what is allowed would be, everything else fails, and fails fast.

Allow rules are asked for by verdict, so nothing is sent anywhere. Direct paths are tried for real, towards addresses
that belong to nobody (RFC 5737) and towards the bottle's own neighbours. Not its duty: trust (`trustgate`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from bottle_fsm.bottle import Bottle
from bottle_fsm.egress.rule import Rule, rule_of_entry, ssh_rule
from bottle_fsm.errors import GateError
from bottle_fsm.model import Json
from bottle_fsm.naming import ROLE_INTERCEPTOR
from bottle_fsm.places import DENIED_PROBE_HOST, UNUSABLE_DNS
from bottle_fsm.plan.bottle_plan import BottlePlan
from bottle_fsm.provision.probe_scripts import PROBE, Kind
from bottle_fsm.provision.shell import checked
from bottle_fsm.steps import Steps

STEP: Final = "selftest"
EVIDENCE: Final = "selftest"
PLACE: Final = "egress self-test"
TIMEOUT: Final = 60.0

_GOT: Final = 200
"""How much of an answer is kept."""

DIRECT_MS: Final = 2000
"""A direct path must fail within this time: a tool that tries it shall not seem to hang."""
REFUSAL_MS: Final = 1000
LOOKUP_MS: Final = 3000
"""A name is looked up twice (IPv4 and IPv6), and the resolver that never answers costs a second each time."""

PUBLIC_ADDRESS: Final = "198.51.100.1:443"
PUBLIC_RESOLVER: Final = "198.51.100.53:53"
METADATA: Final = "169.254.169.254:80"


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing to try inside.

    Attributes:
        name, kind: what it is. target: what is tried, as the row names it. expected: the answer that is wanted.
        within: how many milliseconds a failure may take, 0 where it is no matter.
        question: the gate's question of a verdict, as the query of a URL.
    """

    name: str
    kind: Kind
    target: str
    expected: str
    within: int = 0
    question: str = ""


def run_selftest(bottle: Bottle, plan: BottlePlan, probes: Mapping[str, str], steps: Steps) -> None:
    """Try everything and record a row for each: `probe`, `target`, `expected`, `got`, `ok`, `ms`.

    `ok` is None where a probe can show nothing (the image has nothing to try it with, the guard cannot resolve the
    name); `got` says so. `probes` maps what an address is to
    `host:port`; a backend without an interceptor is tested with direct paths alone, and not at all when it names none.

    Raises:
        GateError: a row failed.
    """
    wanted = planned_probes(plan, probes)
    if not wanted:
        steps.skip(STEP, reason="this backend controls no egress")
        return
    with steps.act(STEP, cause="nothing is handed over untested", role="agent") as step:
        rows = _run(bottle, wanted, steps)
        late = [p for p, row in zip(wanted, rows, strict=True) if row["got"].startswith("late: ")]
        if late:
            # a busy machine may stretch one try; the same probe late twice is a finding
            again = {row["probe"]: row for row in _run(bottle, late, steps)}
            rows = [again.get(row["probe"], row) for row in rows]
        step.evidence(EVIDENCE, rows)
    failed = [row for row in rows if row["ok"] is False]
    if failed:
        named = "; ".join(map(failure, failed))
        hint = "The bottle is not handed over: `bottle-fsm audit` shows all rows"
        raise GateError(f"{len(failed)} of {len(rows)} probes failed: {named}", place=PLACE, hint=hint)


def failure(row: Json) -> str:
    """Say in a few words what a failed row expected and what came."""
    target = f" ({row['target']})" if row["target"] else ""
    return f"{row['probe']}{target}: expected {row['expected']}, {row['got']}"


def planned_probes(plan: BottlePlan, probes: Mapping[str, str]) -> list[Probe]:
    """Return every probe for a plan; none when it has neither an interceptor nor addresses of its own to test."""
    intercepted = any(o.role == ROLE_INTERCEPTOR for o in plan.objects)
    if not intercepted and not probes:
        return []
    return (_verdict_probes(plan) + _refusal_probes() if intercepted else []) + _direct_probes(probes)


def _verdict_probes(plan: BottlePlan) -> list[Probe]:
    rules = [
        *(rule_of_entry(entry) for entry in plan.policy.get("allow", [])),
        *(ssh_rule(host, port) for host, port in plan.policy.get("ssh", [])),
    ]
    return [_rule_probe(rule) for rule in rules]


def _rule_probe(rule: Rule) -> Probe:
    """Return the question whether a request that a rule allows would be let through."""
    host, method, path = rule.example()
    where = f"{host}:{rule.port}"
    if rule.kind == "ssh-tcp":
        return Probe(f"allow rule {where}", "verdict", where, "allow", question=_question(host, rule.port))
    target = f"{rule.kind}://{where} {method} {path}"
    question = _question(host, rule.port, method=method, path=path)
    return Probe(f"allow rule {where}", "verdict", target, "allow", question=question)


def _question(host: str, port: int, **line: str) -> str:
    return urlencode({"host": host, "port": port, **line}, safe="/")


def _refusal_probes() -> list[Probe]:
    target = f"{DENIED_PROBE_HOST}:443"
    question = _question(DENIED_PROBE_HOST, 443)
    return [
        Probe("verdict on a host without a rule", "verdict", target, "deny", question=question),
        Probe("host without a rule, HTTPS", "connect", target, "refused", REFUSAL_MS),
        Probe("host without a rule, HTTP", "plain", f"{DENIED_PROBE_HOST}:80", "refused", REFUSAL_MS),
    ]


def _direct_probes(probes: Mapping[str, str]) -> list[Probe]:
    resolver = f"{UNUSABLE_DNS}:53"
    targets = {
        **probes,
        "public address, direct": PUBLIC_ADDRESS,
        "metadata address": METADATA,
        "the bottle's resolver, TCP": resolver,
        "a public resolver, TCP": PUBLIC_RESOLVER,
    }
    return [
        *(Probe(name, "tcp", target, "unreachable", DIRECT_MS) for name, target in targets.items()),
        Probe("the bottle's resolver, UDP", "dns", resolver, "no answer", DIRECT_MS),
        Probe("a public resolver, UDP", "dns", PUBLIC_RESOLVER, "no answer", DIRECT_MS),
        Probe("a name, by the bottle's resolver", "name", DENIED_PROBE_HOST, "no address", LOOKUP_MS),
    ]


def _run(bottle: Bottle, probes: list[Probe], steps: Steps) -> list[Json]:
    arguments = [f"{number} {probe.kind} {probe.question or probe.target}" for number, probe in enumerate(probes)]
    timeout = max(1.0, min(TIMEOUT, steps.remaining()))
    result = checked(bottle, PROBE, *arguments, what=PLACE, timeout=timeout)
    answers = _answers(result.stdout.decode(errors="replace"))
    return [judge(probe, answers.get(number)) for number, probe in enumerate(probes)]


def _answers(text: str) -> dict[int, Json]:
    """Read one JSON object a line; a line that is none is no answer, and a probe without an answer fails."""
    found: dict[int, Json] = {}
    for line in text.splitlines():
        try:
            value = json.loads(line)
            found[int(value["probe"])] = {"got": _short(str(value["got"])), "ms": int(value["ms"])}
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
    return found


def _short(text: str) -> str:
    """Return what came from inside as the journal can bear it: printable, of a length that no agent chooses."""
    return "".join(character if character.isprintable() else "?" for character in text[:_GOT])


def judge(probe: Probe, answer: Json | None) -> Json:
    """Make the row of a probe: exactly the expected answer, in time, is a success."""
    row = {"probe": probe.name, "target": probe.target, "expected": probe.expected}
    if answer is None:
        return {**row, "got": "nothing: the probe did not end", "ok": False, "ms": 0}
    got, milliseconds = answer["got"], answer["ms"]
    if got.startswith(("untested", "unresolved")):
        return {**row, "got": got, "ok": None, "ms": milliseconds}
    fine = got == probe.expected or got.startswith(f"{probe.expected}:")
    late = fine and 0 < probe.within < milliseconds
    told = f"late: {got} after {milliseconds} ms" if late else got
    return {**row, "got": told, "ok": fine and not late, "ms": milliseconds}
