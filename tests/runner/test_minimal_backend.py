"""A backend that defines the abstract methods and nothing else cannot forget validation, trust or order."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from bottle_fsm.backend.base import PROVISION_ORDER, BottleBackend
from bottle_fsm.bottle import Bottle
from bottle_fsm.errors import ValidationError
from bottle_fsm.manifest.spec import BottleSpec
from bottle_fsm.model import Host, Json, Launch, Observed
from bottle_fsm.plan.bottle_plan import BottlePlan
from bottle_fsm.runner.prove import prove
from bottle_fsm.runner.verbs import Wish, apply, destroy
from bottle_fsm.steps import Steps
from bottle_fsm.store import kinds
from runner_bench import BOTTLE, Bench
from sealed_bottle import SealedBottle

BARE = """\
version: 1
name: demo
bottles: {dev: {image: some-image}}
agents: {one: {bottle: dev}}
"""


class MinimalBackend(BottleBackend):
    """Nothing but the abstract methods; its bottle is a network namespace without any network."""

    def resolve_plan(self, spec: BottleSpec) -> BottlePlan:
        return BottlePlan(
            bottle=spec.bottle, slug="s", backend=self.name, spec=spec.digest, endpoint={}, guard="none",
            guard_reason="", objects=(), policy={}, env={}, secrets={}, provision=(),
        )  # fmt: skip

    def start_proxies(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None: ...
    def start_mitm(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None: ...
    def start_agent(self, plan: BottlePlan, launch: Launch, steps: Steps) -> None: ...
    def stop_agent(self, launch: Launch, steps: Steps) -> None: ...
    def stop_mitm(self, launch: Launch, steps: Steps) -> None: ...
    def stop_proxies(self, launch: Launch, steps: Steps) -> None: ...

    def observe(self, launch: Launch) -> Observed:
        return Observed()

    def bottle(self, launch: Launch) -> Bottle:
        return SealedBottle()


def make(name: str, host: Host, endpoint: Json) -> BottleBackend:
    return MinimalBackend(host)


@pytest.fixture
def minimal(bench: Bench) -> Bench:
    bench.runtime = dataclasses.replace(bench.runtime, make_backend=make)
    return bench


@pytest.mark.parametrize(
    ("what", "message"), [("agent", "nobody"), ("skill", "missing"), ("key", "no-key")], ids=["agent", "skill", "key"]
)
def test_refuses_what_this_host_lacks(what: str, message: str, minimal: Bench, tmp_path: Path) -> None:
    host_key = make_host_key(tmp_path)
    ssh = f"ssh: [{{host: git.example.org, user: git, identity_file: ./no-key, known_host_key: '{host_key}'}}]"
    text = {
        "agent": BARE,
        "skill": BARE.replace("{bottle: dev}", "{bottle: dev, skills: [./missing]}"),
        "key": BARE.replace("{image: some-image}", f"{{image: some-image, {ssh}}}"),
    }[what]
    minimal.write(text)
    spec = minimal.spec()
    if what == "agent":
        spec = spec.model_copy(update={"agent": "nobody"})
    with pytest.raises(ValidationError, match=message):
        MinimalBackend(minimal.runtime.host).prepare(spec)


def make_host_key(folder: Path) -> str:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / "host")]
    subprocess.run(command, check=True)
    return (folder / "host.pub").read_text().strip()


def test_cannot_override_the_template_method() -> None:
    assert getattr(BottleBackend.prepare, "__final__", False)


def test_skips_interception_and_provisions_in_order(minimal: Bench) -> None:
    minimal.write(BARE)
    assert apply(minimal.runtime, Wish(minimal.spec(), "minimal")).action == "launched"
    events = list(minimal.runtime.journal.events(bottle=BOTTLE))
    skipped = {e.dest: e.cause for e in events if e.kind == kinds.SKIPPED}
    assert skipped == dict.fromkeys(["mitm_up", "ca_trusted"], "this backend does not intercept TLS")
    steps = [e.evidence["step"] for e in events if e.kind == kinds.STEP_SKIPPED and e.trigger == "provision"]
    assert tuple(s for s in steps if s != "selftest") == PROVISION_ORDER == ("ca", "prompt", "skills", "ssh", "git")
    assert minimal.record.skipped == skipped
    minimal.people.yes = True
    assert destroy(minimal.runtime, BOTTLE).action == "torn_down"


class WalledBackend(MinimalBackend):
    """One that claims to control egress: it names an address, and so it is tested."""

    def selftest_probes(self, plan: BottlePlan, launch: Launch) -> dict[str, str]:
        return {"a neighbour": "192.0.2.9:80"}


def test_proves_from_inside_that_nothing_gets_out(bench: Bench) -> None:
    bench.runtime = dataclasses.replace(bench.runtime, make_backend=lambda name, host, endpoint: WalledBackend(host))
    bench.write(BARE)
    apply(bench.runtime, Wish(bench.spec(), "minimal"))
    step = next(e for e in bench.people.events if "selftest" in e.evidence and e.kind == kinds.STEP_DONE)
    rows = {row["probe"]: row["ok"] for row in step.evidence["selftest"]}
    assert rows["a neighbour"] is True
    assert all(ok is not False for ok in rows.values())


def test_says_that_nothing_is_tested_where_no_egress_is_controlled(minimal: Bench) -> None:
    minimal.write(BARE)
    apply(minimal.runtime, Wish(minimal.spec(), "minimal"))
    assert prove(minimal.runtime, BOTTLE).action == "untested"
    found = minimal.last(kinds.OBSERVED)
    reasons = {"trust_gate": "this backend does not intercept TLS", "selftest": "this backend controls no egress"}
    assert (found.evidence, found.error) == ({"untested": reasons}, "")
    assert found.cause == f"self-test: nothing is tested: {'; '.join(reasons.values())}"


def test_tests_again_what_little_there_is_to_test(bench: Bench) -> None:
    bench.runtime = dataclasses.replace(bench.runtime, make_backend=lambda name, host, endpoint: WalledBackend(host))
    bench.write(BARE)
    apply(bench.runtime, Wish(bench.spec(), "minimal"))
    assert prove(bench.runtime, BOTTLE).action == "proved"
    evidence = bench.last(kinds.OBSERVED).evidence
    assert evidence["untested"] == {"trust_gate": "this backend does not intercept TLS"}
    assert {row["probe"]: row["ok"] for row in evidence["selftest"]}["a neighbour"] is True


def test_has_no_logs_and_no_unsaved_work_unless_it_says_so(minimal: Bench) -> None:
    backend = MinimalBackend(minimal.runtime.host)
    launch = Launch("r", BOTTLE, "L", "s", 1)
    assert backend.unsaved_work(launch) == ""
    with pytest.raises(Exception, match="keeps no logs of guard"):
        backend.logs(launch, "guard", 10)
