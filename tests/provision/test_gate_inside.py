from __future__ import annotations

from collections.abc import Iterator

import pytest
from provision_bench import LAUNCH, Bench, RecordedSteps, Sidecars, start_sidecars

from bottle_fsm.backend.docker.bottle import DockerBottle
from bottle_fsm.backend.docker.images import ImageRef
from bottle_fsm.egress.policy import compile_policy
from bottle_fsm.errors import GateError
from bottle_fsm.provision import ca
from bottle_fsm.provision.trustgate import run_gate

pytestmark = pytest.mark.engine

POLICY = compile_policy(
    bottle="demo/test",
    launch=LAUNCH,
    allow=[("allowed.test", 443), ("*.wild.test", 443), ("plain.test", 80)],
    ssh=[("git.test", 22)],
    hosts={"allowed.test": "203.0.113.5", "plain.test": "203.0.113.5", "git.test": "203.0.113.5"},
)


@pytest.fixture(scope="module")
def sidecars(bench: Bench, network: str, images: dict[str, ImageRef]) -> Sidecars:
    return start_sidecars(bench, images["sidecar"].id, network, POLICY)


@pytest.fixture(scope="module")
def trusting(bench: Bench, network: str, images: dict[str, ImageRef], sidecars: Sidecars) -> DockerBottle:
    bottle = bench.agent(images["agent"].id, network, sidecars.address)
    ca.trust(bottle, sidecars.certificate, RecordedSteps())
    return bottle


def test_proves_every_tool_of_the_agent_image(trusting: DockerBottle, steps: RecordedSteps) -> None:
    matrix = run_gate(trusting, steps=steps, expect_launch=LAUNCH)
    for row in matrix:
        print(row)
    assert all(row["ok"] for row in matrix)
