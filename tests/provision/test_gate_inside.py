from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.backend.docker.images import ImageRef
from bottle_fsm.egress.policy import compile_policy
from bottle_fsm.errors import GateError
from bottle_fsm.naming import ROLE_INTERCEPTOR
from bottle_fsm.places import CA_CERT_PATH
from bottle_fsm.plan.bottle_plan import BottlePlan, PlannedObject
from bottle_fsm.provision import ca
from bottle_fsm.provision.probe_scripts import _SHELL
from bottle_fsm.provision.selftest import run_selftest
from bottle_fsm.provision.trustgate import run_gate
from egress_proc.egress_sidecars import Authority
from provision_bench import LAUNCH, Bench, RecordedSteps, Sidecars, start_sidecars

pytestmark = pytest.mark.engine

API = {"host": "api.test", "port": 443, "methods": ["PUT"], "paths": ["/repos/acme/*"]}
ALLOW = [["allowed.test", 443], ["*.wild.test", 443], ["plain.test", 80], API]
SSH = [["git.test", 22]]
# public-looking addresses of nobody (RFC 5737): verdicts look at them, nothing is sent
NAMES = ("allowed.test", "plain.test", "git.test", "bottle-selftest.wild.test", "api.test")
HOSTS = dict.fromkeys(NAMES, "203.0.113.5")
POLICY = compile_policy(
    bottle="demo/test",
    launch=LAUNCH,
    allow=ALLOW,
    ssh=[("git.test", 22)],
    hosts=HOSTS,
)
EVERY_TOOL = {
    "ca-alone",
    "curl",
    "curl-empty-environment",
    "git",
    "node",
    "npm",
    "openssl",
    "pip",
    "python-requests",
    "python-urllib",
    "wget",
}


def plan(*, allow: Sequence[object] = ALLOW, intercepted: bool = True) -> BottlePlan:
    interceptor = PlannedObject(ROLE_INTERCEPTOR, "container", "x", "mitm_up", {}, runs=True)
    return BottlePlan(
        bottle="demo/test",
        slug="test",
        backend="docker",
        spec="",
        endpoint={},
        guard="builtin",
        guard_reason="",
        objects=(interceptor,) if intercepted else (),
        policy={"allow": list(allow), "ssh": SSH, "hosts": HOSTS},
        env={},
        secrets={},
        provision=(),
    )


@pytest.fixture(scope="module")
def sidecars(bench: Bench, network: str, images: dict[str, ImageRef]) -> Sidecars:
    return start_sidecars(bench, images["sidecar"].id, network, POLICY)


@pytest.fixture(scope="module")
def trusting(bench: Bench, network: str, images: dict[str, ImageRef], sidecars: Sidecars) -> DockerBottle:
    bottle = bench.agent(images["agent"].id, network, sidecars.address)
    ca.trust(bottle, sidecars.certificate, RecordedSteps())
    return bottle


def without(bottle: DockerBottle, *programs: str) -> None:
    """Take programs out of the image as this container sees it."""
    script = 'for program; do rm -f "$(readlink -f "$(command -v "$program")")" "$(command -v "$program")"; done'
    assert bottle.exec(["sh", "-c", script, "sh", *programs], user="root").code == 0


def test_proves_every_tool_of_the_agent_image(trusting: DockerBottle, steps: RecordedSteps) -> None:
    matrix = run_gate(trusting, steps=steps, expect_launch=LAUNCH)
    assert {row["tool"] for row in matrix} == EVERY_TOOL
    assert all(row["ok"] and row["version"] for row in matrix)
    assert steps.done == [("trust_gate", {"trust_matrix": matrix})]
    assert trusting.exec(["find", "/tmp", "-user", "agent"]).text == ""


def test_fails_every_tool_that_does_not_trust_the_ca(
    bench: Bench, network: str, images: dict[str, ImageRef], sidecars: Sidecars, steps: RecordedSteps
) -> None:
    bottle = bench.agent(images["agent"].id, network, sidecars.address)
    with pytest.raises(
        GateError, match="ca-alone, curl, curl-empty-environment, git, node, npm, openssl, pip"
    ) as caught:
        run_gate(bottle, steps=steps, expect_launch=LAUNCH)
    matrix = steps.done[0][1]["trust_matrix"]
    assert {row["tool"] for row in matrix} == EVERY_TOOL
    assert not any(row["ok"] for row in matrix)
    assert all(row["remedy"] for row in matrix)
    assert caught.value.hint
    assert caught.value.hint.startswith("For ca-alone: ")


def test_fails_when_another_launch_answers(trusting: DockerBottle, steps: RecordedSteps) -> None:
    with pytest.raises(GateError, match="curl"):
        run_gate(trusting, steps=steps, expect_launch="another-launch")


def test_names_the_one_tool_that_does_not_look_at_the_store(
    bench: Bench, network: str, images: dict[str, ImageRef], sidecars: Sidecars, steps: RecordedSteps
) -> None:
    bottle = bench.agent(images["agent"].id, network, sidecars.address, NODE_USE_ENV_PROXY="0")
    bench.quick_store(bottle)
    ca.trust(bottle, sidecars.certificate, RecordedSteps())
    with pytest.raises(GateError, match="not trusted or not proxied: node ") as caught:
        run_gate(bottle, steps=steps, expect_launch=LAUNCH)
    assert "use Node 22.21 or 24" in str(caught.value.hint)


@pytest.mark.parametrize("gone", [(), ("curl",)])
def test_compares_the_extracted_certificate_with_the_issuer_in_the_handshake(  # noqa: PLR0917 - fixtures
    bench: Bench, network: str, images: dict[str, ImageRef], sidecars: Sidecars, tmp_path: Path, gone: tuple[str, ...]
) -> None:
    bottle = bench.agent(images["agent"].id, network, sidecars.address)
    bench.quick_store(bottle)
    ca.trust(bottle, sidecars.certificate, RecordedSteps())
    without(bottle, *gone, "node", "npm")  # they add this one file to their own roots
    bottle.copy_in(Authority.make(tmp_path).pem, CA_CERT_PATH, owner="root")
    steps = RecordedSteps()
    with pytest.raises(GateError, match="not trusted or not proxied: ca-alone ") as caught:
        run_gate(bottle, steps=steps, expect_launch=LAUNCH)
    assert "signs with another CA" in str(caught.value.hint)
    assert {row["tool"] for row in steps.done[0][1]["trust_matrix"] if not row["ok"]} == {"ca-alone"}
    bottle.copy_in(sidecars.certificate, CA_CERT_PATH, owner="root")
    assert all(row["ok"] for row in run_gate(bottle, steps=RecordedSteps(), expect_launch=LAUNCH))


@pytest.mark.parametrize("kept", ["curl", "wget"])
def test_works_in_an_image_that_has_one_tool_only(
    bench: Bench, network: str, images: dict[str, ImageRef], sidecars: Sidecars, kept: str
) -> None:
    bottle = bench.agent(images["agent"].id, network, sidecars.address)
    bench.quick_store(bottle)
    ca.trust(bottle, sidecars.certificate, RecordedSteps())
    dropped = {"curl", "wget"} - {kept}
    without(bottle, *dropped, "python3", "git", "npm", "node", "openssl", "nc")
    gate, test = RecordedSteps(), RecordedSteps()
    matrix = run_gate(bottle, steps=gate, expect_launch=LAUNCH)
    rows = {"curl": ["ca-alone", "curl", "curl-empty-environment"], "wget": ["wget"]}
    assert [row["tool"] for row in matrix] == rows[kept]
    run_selftest(bottle, plan(), {}, test)
    rows = test.done[0][1]["selftest"]
    assert all(row["ok"] for row in rows), rows


def test_refuses_an_image_that_can_prove_nothing(
    bench: Bench, network: str, images: dict[str, ImageRef], sidecars: Sidecars, steps: RecordedSteps
) -> None:
    bottle = bench.agent(images["agent"].id, network, sidecars.address)
    without(bottle, "curl", "wget", "python3", "git", "npm", "node", "openssl")
    with pytest.raises(GateError, match="no tool that could prove anything"):
        run_gate(bottle, steps=steps, expect_launch=LAUNCH)


def test_passes_the_selftest_and_records_each_row(trusting: DockerBottle, steps: RecordedSteps) -> None:
    run_selftest(trusting, plan(), {"the guard": "192.0.2.77:8888"}, steps)
    ((name, findings),) = steps.done
    rows = {row["probe"]: row for row in findings["selftest"]}
    assert name == "selftest"
    assert {probe for probe, row in rows.items() if row["expected"] == "allow"} == {
        "allow rule allowed.test:443",
        "allow rule bottle-selftest.wild.test:443",
        "allow rule plain.test:80",
        "allow rule api.test:443",
        "allow rule git.test:22",
    }
    assert rows["allow rule api.test:443"]["target"] == "https://api.test:443 PUT /repos/acme/bottle-selftest"
    assert rows["host without a rule, HTTPS"]["got"] == "refused: status 403"
    assert rows["host without a rule, HTTP"]["got"] == "refused: status 403"
    assert rows["the guard"]["got"].startswith("unreachable")
    assert rows["a name, by the bottle's resolver"]["got"].startswith("no address")
    assert len(rows) == 16
    assert all(row["ok"] and set(row) == {"probe", "target", "expected", "got", "ok", "ms"} for row in rows.values())


def test_fails_an_allow_rule_that_the_sidecars_do_not_know(trusting: DockerBottle, steps: RecordedSteps) -> None:
    with pytest.raises(GateError, match=r"1 of 12 probes failed: allow rule other\.test:443 .*expected allow, deny"):
        run_selftest(trusting, plan(allow=[["other.test", 443]]), {}, steps)
    assert steps.done[0][1]["selftest"][0]["ok"] is False


def test_fails_a_rule_that_the_sidecars_hold_to_less(trusting: DockerBottle, steps: RecordedSteps) -> None:
    wider = {**API, "methods": ["GET", "PUT"]}
    with pytest.raises(GateError, match=r"allow rule api\.test:443 .* GET /repos/acme/.*expected allow, deny"):
        run_selftest(trusting, plan(allow=[wider]), {}, steps)


def test_fails_a_direct_path_that_is_open(trusting: DockerBottle, sidecars: Sidecars, steps: RecordedSteps) -> None:
    open_paths = {"the guard": f"{sidecars.address}:8080", "the host": f"{sidecars.address}:9"}
    with pytest.raises(GateError, match=r"the guard \(.*\): expected unreachable, connected") as caught:
        run_selftest(trusting, plan(intercepted=False), open_paths, steps)
    # whoever refuses a connection was reached
    assert "the host" in str(caught.value)
    assert "expected unreachable, reached: connection refused" in str(caught.value)


def test_tries_direct_paths_only_where_nothing_intercepts(trusting: DockerBottle, steps: RecordedSteps) -> None:
    run_selftest(trusting, plan(intercepted=False), {"a neighbour": "192.0.2.78:22"}, steps)
    rows = steps.done[0][1]["selftest"]
    assert {row["expected"] for row in rows} == {"unreachable", "no answer", "no address"}
    assert len(rows) == 8


def test_is_skipped_where_egress_is_not_controlled(trusting: DockerBottle, steps: RecordedSteps) -> None:
    run_selftest(trusting, plan(intercepted=False), {}, steps)
    assert steps.skipped == {"selftest": "this backend controls no egress"}
    assert steps.done == []


@pytest.mark.parametrize("missing", [(), ("bash",), ("bash", "curl"), ("bash", "curl", "nc")])
def test_tells_open_from_closed_by_shell_alone(
    bench: Bench, network: str, images: dict[str, ImageRef], sidecars: Sidecars, missing: tuple[str, ...]
) -> None:
    bottle = bench.agent(images["agent"].id, network, sidecars.address)
    if missing:
        without(bottle, *missing)
    targets = ["0 tcp 192.0.2.78:443", f"1 tcp {sidecars.address}:8080", "2 dns 198.51.100.53:53"]
    targets.append(f"3 tcp {sidecars.address}:9")
    lines = bottle.exec(["sh", "-c", _SHELL, "sh", *targets], timeout=30).text.splitlines()
    got = {answer["probe"]: answer["got"] for answer in map(json.loads, lines)}
    untested = "untested: the image has neither python3 nor bash nor nc"
    assert got.pop(2) == (untested if {"bash", "nc"} <= set(missing) else "no answer")
    assert got == {0: "unreachable", 1: "connected", 3: "reached: connection refused"}


def test_finds_a_dead_interceptor(
    bench: Bench, network: str, images: dict[str, ImageRef], steps: RecordedSteps
) -> None:
    bottle = bench.agent(images["agent"].id, network, "192.0.2.9")
    with pytest.raises(GateError, match="allow rule allowed"):
        run_selftest(bottle, plan(), {}, steps)
    rows = {row["probe"]: row for row in steps.done[0][1]["selftest"]}
    assert not rows["host without a rule, HTTPS"]["ok"]
    assert rows["metadata address"]["ok"]
