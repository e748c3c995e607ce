"""Lifecycle: one bottle's machine on the `transitions` library. The only importer of it.

The order is what durability rests on: `intent` runs before anything else, `perform` (effect, verification and the
commit of the outcome) while the state attribute still shows the source, and nothing that can fail runs after the
attribute has moved. So memory follows disk: an exception anywhere leaves the source state.
"""

from __future__ import annotations

from typing import Protocol

from transitions import EventData, Machine, MachineError

from bottle_fsm.errors import DefinitionError
from bottle_fsm.machine.definition import Definition, Transition


class Hooks(Protocol):
    """What the runner does at the two points of a transition where failure is allowed."""

    def intent(self, transition: Transition, source: str) -> None:
        """Check lock and epoch, commit the intent. An exception refuses the transition."""
        ...

    def perform(self, transition: Transition, source: str) -> None:
        """Observe, act, verify, commit the outcome. An exception leaves the source state."""
        ...


class _Model:
    """The thin model: nothing but the state, so that no trigger can collide with a method."""

    state: str


class Lifecycle:
    """The machine of one launch, in a given state."""

    def __init__(self, definition: Definition, hooks: Hooks, *, state: str | None = None) -> None:
        self._definition = definition
        self._hooks = hooks
        self._model = _Model()
        clash = {t.trigger for t in definition.transitions} & set(dir(self._model))
        if clash:
            raise DefinitionError(f"trigger {min(clash)!r} collides with the model", place=definition.name)
        self._machine = Machine(
            model=None,
            states=list(definition.order),
            initial=definition.initial,
            transitions=[
                {"trigger": t.trigger, "source": list(t.source), "dest": t.dest, "before": [self._perform]}
                for t in definition.transitions
            ],
            before_state_change=[self._intent],
            auto_transitions=False,
            send_event=True,
            queued=False,
        )
        self._machine.add_model(self._model, initial=state or definition.initial)

    @property
    def state(self) -> str:
        """The current state."""
        return self._model.state

    def fire(self, trigger: str) -> None:
        """Take the transition that `trigger` names from the current state.

        Raises:
            DefinitionError: there is no such transition from here; nothing happened.
            Exception: whatever a hook raised; the state has not moved.
        """
        event = self._machine.events.get(trigger)
        if event is None:
            raise DefinitionError(f"no transition is triggered by {trigger!r}", place=self._definition.name)
        try:
            event.trigger(self._model)
        except MachineError as error:
            raise DefinitionError(
                f"{trigger!r} does not lead out of {self.state!r}", place=self._definition.name
            ) from error

    def _intent(self, event: EventData) -> None:
        self._hooks.intent(self._definition.transition(event.event.name), self.state)

    def _perform(self, event: EventData) -> None:
        self._hooks.perform(self._definition.transition(event.event.name), self.state)
