"""The machine on the library: every cell of states × triggers, and memory that follows disk."""

from __future__ import annotations

import itertools

import pytest

from bottle_fsm.errors import BottleError, DefinitionError
from bottle_fsm.machine.definition import Transition
from bottle_fsm.machine.diagram import mermaid
from bottle_fsm.machine.lifecycle import Lifecycle
from bottle_fsm.runner.registry import load_definition

DEFINITION = load_definition()
CELLS = list(itertools.product(DEFINITION.order, [t.trigger for t in DEFINITION.transitions]))


class Recorder:
    """Hooks that write down what they saw, and fail on request."""

    def __init__(self, fail_in: str = "") -> None:
        self.seen: list[tuple[str, str, str, str]] = []
        self.fail_in = fail_in
        self.lifecycle: Lifecycle | None = None

    def _note(self, where: str, transition: Transition, source: str) -> None:
        assert self.lifecycle is not None
        self.seen.append((where, transition.trigger, source, self.lifecycle.state))
        if where == self.fail_in:
            raise BottleError(f"{where} fails")

    def intent(self, transition: Transition, source: str) -> None:
        self._note("intent", transition, source)

    def perform(self, transition: Transition, source: str) -> None:
        self._note("perform", transition, source)


def machine(state: str, fail_in: str = "") -> tuple[Lifecycle, Recorder]:
    hooks = Recorder(fail_in)
    lifecycle = Lifecycle(DEFINITION, hooks, state=state)
    hooks.lifecycle = lifecycle
    return lifecycle, hooks


@pytest.mark.parametrize(("state", "trigger"), CELLS)
def test_moves_as_listed_or_refuses(state: str, trigger: str) -> None:
    lifecycle, hooks = machine(state)
    transition = DEFINITION.transition(trigger)
    if state in transition.source:
        lifecycle.fire(trigger)
        assert lifecycle.state == transition.dest
        assert [s[0] for s in hooks.seen] == ["intent", "perform"]
    else:
        with pytest.raises(DefinitionError, match="does not lead out of"):
            lifecycle.fire(trigger)
        assert lifecycle.state == state
        assert hooks.seen == []


def test_runs_intent_before_the_effect_while_the_source_state_stands() -> None:
    lifecycle, hooks = machine("planned")
    lifecycle.fire("start_proxies")
    assert hooks.seen == [
        ("intent", "start_proxies", "planned", "planned"),
        ("perform", "start_proxies", "planned", "planned"),
    ]


@pytest.mark.parametrize("where", ["intent", "perform"])
def test_stays_in_the_source_state_when_a_hook_raises(where: str) -> None:
    lifecycle, hooks = machine("planned", where)
    with pytest.raises(BottleError, match=f"{where} fails"):
        lifecycle.fire("start_proxies")
    assert lifecycle.state == "planned"
    assert hooks.seen[-1][0] == where


def test_does_not_take_a_fault_in_a_hook_for_a_missing_transition() -> None:
    class Faulty(Recorder):
        def intent(self, transition: Transition, source: str) -> None:
            pass

        def perform(self, transition: Transition, source: str) -> None:
            raise KeyError("a fault of ours")

    lifecycle = Lifecycle(DEFINITION, Faulty(), state="declared")
    with pytest.raises(KeyError, match="a fault of ours"):
        lifecycle.fire("validate")
    with pytest.raises(DefinitionError, match="no transition is triggered by 'jump'"):
        lifecycle.fire("jump")


def test_has_no_trigger_that_jumps_to_a_state() -> None:
    lifecycle, _ = machine("planned")
    with pytest.raises(DefinitionError, match="no transition is triggered by 'to_provisioned'"):
        lifecycle.fire("to_provisioned")


def test_begins_in_the_initial_state_and_restores_any_other() -> None:
    assert Lifecycle(DEFINITION, Recorder()).state == "declared"
    lifecycle, hooks = machine("agent_up")
    assert lifecycle.state == "agent_up"
    assert hooks.seen == []


def test_draws_every_edge_once() -> None:
    lines = mermaid(DEFINITION).splitlines()
    edges = [line.strip() for line in lines if ":" in line]
    expected = [f"{s} --> {t.dest}: {t.trigger}" for t in DEFINITION.transitions for s in t.source]
    assert edges == expected
    assert "    [*] --> declared" in lines
    assert "    torn_down --> [*]" in lines
