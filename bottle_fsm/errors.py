"""The error tree: every error says where, what and how to go on, and knows its exit code.

Not its duty: printing. Only `cli` turns an error into text on a terminal and a process exit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class BottleError(Exception):
    """Base of every error that bottle-fsm raises on purpose.

    Attributes:
        problem: what is wrong, one sentence without a full stop.
        place: where, such as `manifest.yaml:12 agents/implementer/skills` or `demo/implementer proxies_up guard`.
        hint: how to go on, or None when there is nothing useful to say.
        code: the stable name of the error class, as the journal and `states/*.yaml` (retry) write it.
        exit_code: the process exit code that this error leads to.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, *, place: str | None = None, hint: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.place = place
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        how = f". {self.hint}" if self.hint else ""
        return f"{where}{self.problem}{how}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One of several things that are wrong with a file: its place, what is wrong, and how to go on."""

    place: str
    problem: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}." + (f" {self.hint}" if self.hint else "")


class UsageError(BottleError):
    """The command line, or a combination of its options, makes no sense."""

    code = "usage"


class ManifestError(BottleError):
    """A manifest is wrong; holds all problems of the file, at least one."""

    code = "manifest"

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        super().__init__(first.problem, place=first.place, hint=first.hint or None)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class ValidationError(ManifestError):
    """A manifest is well formed, but this host lacks what it names (a skill, a key, a variable)."""

    code = "validation"


class DefinitionError(BottleError):
    """A `states/*.yaml` definition is wrong."""

    code = "definition"


class StoreError(BottleError):
    """The journal cannot be opened, read or written."""

    code = "store"


class ChainBrokenError(BottleError):
    """The journal's hash chain does not hold; `sequence` is the first bad event."""

    code = "chain_broken"
    exit_code = 2

    def __init__(self, problem: str, *, sequence: int, place: str | None = None) -> None:
        super().__init__(problem, place=place or f"event {sequence}")
        self.sequence = sequence


class LockHeldError(BottleError):
    """Another process works on this bottle."""

    code = "lock_held"
    exit_code = 3


class LockLostError(BottleError):
    """This process no longer owns the bottle: a newer epoch is in the journal. Nothing more is written or done."""

    code = "lock_lost"
    exit_code = 3


class DecisionNeededError(BottleError):
    """A decision or a value is needed from a person (a secret, a confirmation, a restored state directory)."""

    code = "decision_needed"
    exit_code = 4


class BackendError(BottleError):
    """The backend refused or failed; permanent unless a subclass says otherwise."""

    code = "backend"


class EngineUnavailableError(BackendError):
    """The engine does not answer (not running, connection refused, permission denied on its socket)."""

    code = "engine_unavailable"


class TransientError(BackendError):
    """The engine failed in a way that a retry may mend (5xx, conflict with a request in flight, lost reply)."""

    code = "transient"


class StepTimeoutError(BackendError):
    """A step did not finish within its attempt's timeout."""

    code = "timeout"


class NoLogError(BackendError):
    """There is no log to read: no such container, or a backend that keeps none."""

    code = "no_log"


class SidecarExitedError(BackendError):
    """A container that we wait for ended; the message carries its exit code and its last lines."""

    code = "sidecar_exited"


class NameTakenError(BackendError):
    """An object of the wanted name exists and is not ours. It is never touched."""

    code = "name_taken"


class ImageMissingError(BackendError):
    """An image is not on the engine and can be neither built nor pulled."""

    code = "image_missing"


class PoolSpentError(BackendError):
    """No subnet of the configured pool is free."""

    code = "pool_spent"


class DriftError(BackendError):
    """The world does not show what an earlier state promised."""

    code = "drift"


class GateError(BackendError):
    """The trust gate or the egress self-test found a failing row; the bottle is not handed over."""

    code = "gate"


class ProvisionError(BackendError):
    """A provisioner could not put something inside the bottle, or did not find it there afterwards."""

    code = "provision"


class UnexpectedError(BackendError):
    """A fault of ours or of a library: something raised what nobody expected. Treated as a failed attempt."""

    code = "unexpected"


class LaunchFailedError(BottleError):
    """A launch failed and was torn down, or kept if asked."""

    code = "launch_failed"
    exit_code = 5


class TeardownIncompleteError(BottleError):
    """Something of the launch is left; its names are in the message."""

    code = "teardown_incomplete"
    exit_code = 6


class InterruptedLaunchError(BottleError):
    """A signal asked us to stop; `signum` gives the exit code 128 + signum."""

    code = "interrupted"

    def __init__(self, signum: int, *, place: str | None = None, hint: str | None = None) -> None:
        super().__init__(f"stopped by signal {signum}", place=place, hint=hint)
        self.signum = signum
