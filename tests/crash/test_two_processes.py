"""Real processes beside each other, on one bottle and on twenty: one owner, and a loser that does nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bottle_fsm.errors import BottleError, LockHeldError, LockLostError
from bottle_fsm.manifest.load import load_manifest
from bottle_fsm.manifest.spec import BottleSpec, specs
from bottle_fsm.model import Event
from bottle_fsm.runner.collect import collect, find
from bottle_fsm.runner.many import run_many
from bottle_fsm.runner.people import Silent
from bottle_fsm.runner.session import Runtime
from bottle_fsm.runner.verbs import Wish, apply, destroy, resume
from bottle_fsm.store import kinds
from bottle_fsm.store.lock import is_held
from bottle_fsm.store.record import READY, TORN_DOWN
from crash_backup import committed, cut
from crash_cases import BOTTLE, MANIFEST, Place
from crash_judge import judge

HELD, LOST, BROKE = 3, 30, 9
TWENTY = 20


def spawn(work: Callable[[], object]) -> int:
    """Begin a piece of work in a process of its own."""
    child = os.fork()
    if child == 0:
        code = BROKE
        try:
            work()
            code = 0
        except LockLostError:
            code = LOST
        except BottleError as error:
            code = error.exit_code
        finally:
            os._exit(code)
    return child


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def act(place: Place, verb: str, *, lock_timeout: float = 0.0) -> None:
    runtime = place.runtime()
    try:
        run(runtime, wanted(place)[0], verb, lock_timeout)
    finally:
        runtime.journal.close()


def run(runtime: Runtime, spec: BottleSpec, verb: str, lock_timeout: float = 0.0) -> object:
    if verb == "apply":
        return apply(runtime, Wish(spec, "fake"), lock_timeout=lock_timeout)
    if verb == "resume":
        return resume(runtime, spec.bottle, lock_timeout=lock_timeout)
    return destroy(runtime, spec.bottle, discard=True, lock_timeout=lock_timeout)


def wanted(place: Place) -> list[BottleSpec]:
    loaded = load_manifest(place.folder / "manifest.yaml")
    return list(specs(loaded.manifest, loaded.path))


def begin_slowly(place: Place, seconds: float) -> None:
    place.runtime().journal.close()
    place.world.slow_down(seconds)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# -- one bottle ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [("apply",) * 3, ("resume", "destroy", "apply"), ("destroy", "destroy", "resume")])
def test_has_one_owner_at_a_time(others: tuple[str, ...], place: Place) -> None:
    begin_slowly(place, 0.002)
    children = [spawn(lambda verb=verb: act(place, verb)) for verb in ("apply", *others) * 2]  # type: ignore[misc]
    codes = [ended(child) for child in children]
    assert set(codes) <= {0, HELD}
    assert codes.count(0) >= 1
    assert codes.count(HELD) >= 1
    owners = [e.run for e in committed(place) if e.bottle]
    assert owners == sorted(owners, key=owners.index), "the events of two owners are mixed"
    act(place, "apply")
    assert judge(place, "apply", {}) == []


def test_names_the_holder_and_waits_for_it_when_asked(place: Place) -> None:
    begin_slowly(place, 0.02)
    holder = spawn(lambda: act(place, "apply"))
    wait_until(lambda: is_held(place.state, BOTTLE))
    with pytest.raises(LockHeldError, match=rf"held by pid {holder} \(apply\)") as caught:
        act(place, "destroy")
    assert caught.value.exit_code == HELD
    assert "--lock-timeout" in str(caught.value.hint)
    waiting = spawn(lambda: act(place, "resume", lock_timeout=60))
    assert ended(holder) == 0
    assert ended(waiting) == 0
    assert judge(place, "resume", {}) == []
    epochs = [e.epoch for e in committed(place) if e.kind == kinds.LOCK]
    assert epochs == [1, 2]


# -- twenty bottles --------------------------------------------------------------------------------------------------


def want_twenty(place: Place) -> None:
    agents = "".join(f"  n{number}: {{bottle: dev}}\n" for number in range(TWENTY))
    (place.folder / "manifest.yaml").write_text(f"{MANIFEST.split('agents:', maxsplit=1)[0]}agents:\n{agents}")
    place.runtime().journal.close()


def test_keeps_twenty_bottles_apart(place: Place) -> None:
    want_twenty(place)
    children = [spawn(lambda verb=verb: all_of(place, verb)) for verb in ("apply", "resume", "destroy", "apply")]  # type: ignore[misc]
    assert {ended(child) for child in children} <= {0, HELD}
    assert consistent(place) <= {READY, TORN_DOWN}
    all_of(place, "apply")
    assert consistent(place) == {READY}
    assert len(place.world.objects()) == TWENTY * 6
    all_of(place, "destroy")
    assert place.world.objects() == []


def test_collects_beside_launches_and_touches_no_live_bottle(place: Place) -> None:
    want_twenty(place)
    all_of(place, "apply")
    old = [o for o in place.world.objects() if o.labels["bottle-fsm.role"] == "net-inside"]
    all_of(place, "destroy")
    late = {place.world.create("network", o.name, dict(o.labels)) for o in old}
    assert len(late) == TWENTY, "requests of dead launchers that arrived after all"
    children = [spawn(lambda verb=verb: all_of(place, verb)) for verb in ("apply", "gc", "destroy", "gc", "apply")]  # type: ignore[misc]
    assert {ended(child) for child in children} <= {0, HELD}
    all_of(place, "apply")
    all_of(place, "gc")
    assert late.isdisjoint(o.id for o in place.world.objects())
    assert consistent(place) == {READY}
    before = sorted(o.id for o in place.world.objects())
    assert len(before) == TWENTY * 6
    all_of(place, "gc")
    assert sorted(o.id for o in place.world.objects()) == before


def collect_all(runtime: Runtime) -> None:
    """Do what `gc --yes` does; raise the first thing that went wrong."""
    found = find(runtime.journal, runtime.host, runtime.make_backend, today=("fake",))
    if errors := collect(runtime, found.strays).errors:
        raise errors[0]


def all_of(place: Place, verb: str) -> None:
    """Run one verb on all bottles at once; raise the worst of what went wrong."""
    runtime = place.runtime()
    try:
        if verb == "gc":
            collect_all(runtime)
            return
        work = {s.bottle: lambda s=s: run(runtime, s, verb) for s in wanted(place)}
        results = run_many(work, parallel=4, ended=lambda bottle, result: None)  # type: ignore[arg-type]
    finally:
        runtime.journal.close()
    wrong = [r for r in results.values() if isinstance(r, BottleError)]
    if wrong:
        raise max(wrong, key=lambda error: error.exit_code)


def consistent(place: Place) -> set[str]:
    """Check chain and fold; return the outcomes, each compared with the objects that are there."""
    runtime = place.runtime()
    try:
        runtime.journal.verify()
        records = runtime.journal.records()
    finally:
        runtime.journal.close()
    owned = [o.labels["bottle-fsm.launch"] for o in place.world.objects()]
    for record in records:
        assert owned.count(record.launch) == (6 if record.outcome == READY else 0), record.bottle
    return {record.outcome for record in records}


# -- a lost lock -----------------------------------------------------------------------------------------------------


class _Pausing(Silent):
    """Stops its process after one sub-step, tells so, and waits until it may go on."""

    def __init__(self, step: str, said: int, asked: int, first: Callable[[], None]) -> None:
        super().__init__(yes=True)
        self._step, self._said, self._asked, self._first = step, said, asked, first

    def committed(self, event: Event) -> None:
        if event.kind == kinds.STEP_DONE and event.evidence["step"] == self._step:
            self._first()
            os.write(self._said, b"!")
            os.read(self._asked, 1)


def lose_the_lock() -> None:
    """Let go of every lock file of this process, as if its file description had been closed under it."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            lock = entry.readlink().suffix == ".lock"
        except FileNotFoundError:
            continue
        if lock:
            os.close(int(entry.name))


def paused_launch(place: Place, first: Callable[[], None], meanwhile: Callable[[], None]) -> int:
    """Launch, pause in the middle, do something else meanwhile, let it go on; return how it ended."""
    place.runtime().journal.close()
    said, say = os.pipe()
    asked, ask = os.pipe()

    def work() -> None:
        runtime = place.runtime()
        people = _Pausing("create net-outside", say, asked, first)
        mine = Runtime(
            runtime.root, runtime.journal, runtime.definition, runtime.host, runtime.make_backend, people, runtime.stop
        )
        apply(mine, Wish(wanted(place)[0], "fake"))

    child = spawn(work)
    os.read(said, 1)
    meanwhile()
    os.write(ask, b"!")
    code = ended(child)
    for descriptor in (said, say, asked, ask):
        os.close(descriptor)
    return code


def test_neither_writes_nor_acts_without_its_lock(place: Place) -> None:
    left: list[object] = []

    def take_over() -> None:
        assert ended(spawn(lambda: act(place, "resume"))) == 0
        left.extend([len(committed(place)), sorted(o.id for o in place.world.objects())])

    assert paused_launch(place, lose_the_lock, take_over) == LOST
    assert [len(committed(place)), sorted(o.id for o in place.world.objects())] == left
    assert judge(place, "resume", {}) == []


def test_neither_writes_nor_acts_after_its_state_directory_was_restored(place: Place) -> None:
    """The journal is put back to a backup's while its writer lives: the writer has the old file open, and stops."""
    left: list[object] = []

    def restore() -> None:
        cut(place, len(committed(place)) - 2)
        left.extend([len(committed(place)), sorted(o.id for o in place.world.objects())])

    assert paused_launch(place, lambda: None, restore) == LOST
    assert [len(committed(place)), sorted(o.id for o in place.world.objects())] == left
    act(place, "resume")
    assert judge(place, "resume", {}) == []
