"""What the facts of a state directory, its journal and this machine's clock mean. Pure.

Not its duty: looking (`state_look`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from bottle_fsm.doctor.rows import GIB, Row, failed, gib, ok, warning

AREA: Final = "state"
NETWORK_FILE_SYSTEMS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs"})
"""The ones that the store refuses; a test compares."""
FULL: Final = 16 << 20
LOW_DISK: Final = GIB
EARLIEST: Final = 2025
"""No clock that is right shows an earlier year: this program is younger."""
_SLACK: Final = timedelta(seconds=5)
_SHOWN: Final = 5
_OTHERS: Final = 0o077
_NAME: Final = "or name another directory with --state-dir or BOTTLE_FSM_STATE_DIR"


@dataclass(frozen=True, slots=True)
class DirectoryFacts:
    """What was found out about a state directory.

    Attributes:
        path: the directory. exists: it is there. directory: what is there is one, else a file is in its place.
        owner, uid: whose it is, and who we are. mode: its permissions. writable: we may write there, or make it.
        parent: the nearest path that exists. kind: type of the file system, empty if not known. free: bytes free there.
        root_id: its id, empty for a new one. made_here: whether this machine made it; None for a new one.
        problem: why its identity cannot be read, or empty.
    """

    path: str = ""
    exists: bool = True
    directory: bool = True
    owner: int = 0
    uid: int = 0
    mode: int = 0o700
    writable: bool = True
    parent: str = ""
    kind: str = ""
    free: int | None = None
    root_id: str = ""
    made_here: bool | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class JournalFacts:
    """What was found out about a journal.

    Attributes:
        exists: there is one. problem, hint: why it cannot be read, or empty. late: it did not answer in time.
        bottles: how many were ever declared; live: names of those that are not torn down.
        newest: when its newest event was written, as recorded; boot, monotonic: that event's boot and clock.
    """

    exists: bool = False
    problem: str = ""
    hint: str = ""
    late: bool = False
    bottles: int = 0
    live: tuple[str, ...] = ()
    newest: str = ""
    boot: str = ""
    monotonic: float = 0.0


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """This machine's clocks: now, in UTC; boot: the kernel's boot id, empty if unreadable; monotonic: seconds."""

    now: datetime = field(default_factory=lambda: datetime(2030, 1, 1, tzinfo=UTC))
    boot: str = ""
    monotonic: float = 0.0


@dataclass(frozen=True, slots=True)
class StaleFacts:
    """What `gc` would list: strays, those among them that are left to a person, and what could not be looked at.

    Attributes:
        strays: each with its cause. undecided: likewise. unreachable: recorded engines that could not be looked at.
        unseen: which of today's engines were not looked at. problem: why nothing could be listed, or empty.
    """

    strays: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    unreachable: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    problem: str = ""


def directory_rows(facts: DirectoryFacts) -> Iterator[Row]:
    """Yield the rows; one that failed means that nothing can be launched with this state directory."""
    name, remedy = "directory", f"`chmod u+rwx {facts.path}`, {_NAME}"
    if facts.kind in NETWORK_FILE_SYSTEMS:
        found = f"{facts.path} is on a network file system ({facts.kind}), where locks do not hold"
        yield failed(AREA, name, found, _other())
    elif not facts.directory:
        yield failed(AREA, name, f"{facts.parent} is no directory", _other())
    elif facts.exists and facts.owner != facts.uid:
        found = f"{facts.path} belongs to uid {facts.owner}, you are uid {facts.uid}"
        yield failed(AREA, name, found, f"Run it as that user, {_NAME}")
    elif not facts.writable and facts.exists:
        yield failed(AREA, name, f"{facts.path} cannot be written (permissions, or mounted read-only)", remedy)
    elif not facts.writable:
        yield failed(AREA, name, f"{facts.path} is not there, and {facts.parent} cannot be written", _other())
    elif facts.exists and facts.mode & _OTHERS:
        found = f"{facts.path} can be entered by others (mode {facts.mode:04o})"
        yield warning(AREA, name, found, f"`chmod 700 {facts.path}`; the next launch does it, too")
    elif facts.exists:
        yield ok(AREA, name, f"{facts.path}, mode {facts.mode:04o}{f', on {facts.kind}' if facts.kind else ''}")
    else:
        yield ok(AREA, name, f"{facts.path} will be made at the first launch")
    yield from _identity(facts)
    yield _disk(facts)


def journal_rows(facts: JournalFacts) -> Iterator[Row]:
    """Yield the rows; one that failed means that nothing can be launched with this state directory."""
    name = "journal"
    if facts.late:
        remedy = "Another process may be writing to it for long: run this again; `bottle-fsm status` shows who works"
        yield warning(AREA, name, f"does not open: {facts.problem}", remedy)
    elif facts.problem:
        first = f"{facts.hint.rstrip('.')}; if it is damaged, restore" if facts.hint else "Restore"
        remedy = f"{first} the state directory from a backup, {_NAME}"
        yield failed(AREA, name, f"does not open: {facts.problem}", remedy)
    elif not facts.exists:
        yield ok(AREA, name, "none yet: nothing was launched from here")
    else:
        live = f": {_some(facts.live)}" if facts.live else ""
        plural = "" if facts.bottles == 1 else "s"
        yield ok(AREA, name, f"opens; {facts.bottles} bottle{plural}, {len(facts.live)} not torn down{live}")


def clock_rows(clock: ClockFacts, journal: JournalFacts) -> Iterator[Row]:
    """Yield the rows; a wrong clock stops no launch by itself, but certificates and the order of events need it."""
    name, remedy = "clock", "Set the clock: `timedatectl set-ntp true`, or `date -s` as root"
    shown = f"{clock.now:%Y-%m-%d %H:%M:%S} UTC"
    newest = _time(journal.newest)
    if clock.now.year < EARLIEST:
        yield warning(AREA, name, f"shows {shown}, which is long past: certificates are not valid yet", remedy)
    elif newest is not None and clock.now + _SLACK < newest:
        found = f"shows {shown}, but the journal's newest event is of {newest:%Y-%m-%d %H:%M:%S}: it was set back"
        yield warning(AREA, name, found, remedy)
    elif clock.boot and clock.boot == journal.boot and clock.monotonic + _SLACK.total_seconds() < journal.monotonic:
        found = f"the monotonic clock shows {clock.monotonic:.0f} s, an event of this boot {journal.monotonic:.0f} s"
        yield warning(AREA, name, found, "Run it where `apply` ran: another time namespace has another clock")
    else:
        yield ok(AREA, name, shown)
    if clock.boot:
        yield ok(AREA, "boot id", clock.boot)
    else:
        found = "cannot be read: `status` cannot tell whether the machine was started again"
        yield warning(AREA, "boot id", found, "Mount /proc with /proc/sys/kernel/random/boot_id; macOS has none")


def stale_rows(facts: StaleFacts) -> Iterator[Row]:
    """Yield the rows about objects that belong to no live bottle."""
    name = "leftovers"
    if facts.problem:
        remedy = "Mend what stands above, then `bottle-fsm gc` lists them"
        yield warning(AREA, name, f"could not be looked for: {facts.problem}", remedy)
        return
    for text in facts.unreachable:
        remedy = "Bring that engine back: the bottles that were launched there live there"
        yield warning(AREA, "recorded engine", text, remedy)
    if facts.undecided:
        remedy = "Use the newer state directory; see docs/operations.md, A restored or copied state directory"
        found = f"newer than the journal: {_some(facts.undecided)}"
        yield warning(AREA, name, found, remedy)
    if facts.strays:
        plural = "" if len(facts.strays) == 1 else "s"
        found = f"{len(facts.strays)} object{plural} of no live bottle: {_some(facts.strays)}"
        yield warning(AREA, name, found, "`bottle-fsm gc` shows them and asks before it removes them")
    if not facts.undecided and not facts.strays:
        yield ok(AREA, name, "; ".join(("none", *facts.unseen)))


def file_system(path: str, mounts: str) -> str:
    """Return the type of the file system that holds a real path, by the text of /proc/self/mounts; empty if unknown."""
    best, kind = "", ""
    for line in mounts.splitlines():
        words = line.split(" ")
        if len(words) <= _TYPE:
            continue
        point = _unescaped(words[1])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, words[_TYPE]
    return kind


_TYPE: Final = 2
"""Of a line of /proc/self/mounts: device, place, type, options."""


def _unescaped(text: str) -> str:
    for written, meant in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(written, meant)
    return text


def _identity(facts: DirectoryFacts) -> Iterator[Row]:
    if facts.problem:
        remedy = "Restore root.json from a backup of this state directory, or use a fresh --state-dir"
        yield failed(AREA, "identity", facts.problem, remedy)
    elif facts.made_here is False:
        found = "this state directory was made on another machine: it can be read, acting is refused"
        yield failed(AREA, "identity", found, "Use a fresh --state-dir here")


def _disk(facts: DirectoryFacts) -> Row:
    name = "disk"
    if facts.free is None:
        return warning(AREA, name, f"free space of {facts.parent} is not known", f"`df -h {facts.parent}`")
    found = f"{gib(facts.free)} free at {facts.parent}"
    if facts.free < FULL:
        return failed(AREA, name, found, f"Free some: the journal cannot be written on a full disk; {_NAME}")
    if facts.free < LOW_DISK:
        remedy = f"Free {gib(LOW_DISK)}: homes and workspaces of local bottles are there, too"
        return warning(AREA, name, found, remedy)
    return ok(AREA, name, found)


def _other() -> str:
    return "Name a local directory of your own with --state-dir or BOTTLE_FSM_STATE_DIR"


def _some(texts: tuple[str, ...]) -> str:
    more = len(texts) - _SHOWN
    return "; ".join(texts[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
