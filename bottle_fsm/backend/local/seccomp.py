"""The system calls that nothing inside a sandbox may make, as a filter program for bubblewrap.

Made by libseccomp, which knows the numbers of every architecture. Without the library there is no filter, and without a
filter no sandbox. Not its duty: capabilities and namespaces; this is the second wall behind them.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from bottle_fsm.errors import BackendError

LIBRARY: Final = "libseccomp.so.2"
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_KILL: Final = 0x80000000
_ATTRIBUTE_BAD_ARCHITECTURE: Final = 2
_MASKED_EQUAL: Final = 7
_LOW: Final = 0xFFFFFFFF

TIOCSTI: Final = 0x5412
TIOCLINUX: Final = 0x541C
_NEW_NAMESPACES: Final = 0x7E020080
"""Every CLONE_NEW* flag: user, pid, net, ipc, uts, cgroup, mount, time."""
SOCKET_FAMILIES: Final = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: no other kind of socket is made; vsock leads past the network namespace."""
PERSONALITIES: Final = 0x20008
"""Bits that a personality may have (UNAME26 and PER_LINUX32); a question, all bits set, is allowed too."""
NUMBERS: Final[Mapping[str, int]] = {"open_tree_attr": 467}
"""Calls that are newer than most copies of the library; numbers from 424 on are the same on every architecture."""

DENIED: Final = (
    *("add_key", "keyctl", "request_key"),
    *("bpf", "perf_event_open", "userfaultfd", "ptrace", "process_vm_readv", "process_vm_writev", "kcmp"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("mount", "umount", "umount2", "move_mount", "open_tree", "open_tree_attr", "mount_setattr"),
    *("pivot_root", "chroot"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "quotactl", "quotactl_fd", "swapon", "swapoff", "acct"),
    *("unshare", "setns", "name_to_handle_at", "open_by_handle_at"),
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot"),
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "stime", "sethostname", "setdomainname"),
    *("iopl", "ioperm", "modify_ldt", "vhangup", "syslog", "lookup_dcookie", "nfsservctl", "uselib", "sysfs"),
    *("mbind", "set_mempolicy", "migrate_pages", "move_pages", "fanotify_init", "vmsplice", "pidfd_getfd"),
)
"""Refused with EPERM, whatever the arguments."""


class _Compare(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def sealed_fd() -> int:
    """Return a file descriptor from which the filter program can be read; whoever gets it closes it.

    Raises:
        BackendError: there is no libseccomp, or it refused.
    """
    library = _library()
    context = library.seccomp_init(ctypes.c_uint32(_ALLOW))
    if not context:
        raise BackendError("libseccomp gives no filter", place=LIBRARY)
    context = ctypes.c_void_p(context)
    try:
        _check(library.seccomp_attr_set(context, _ATTRIBUTE_BAD_ARCHITECTURE, ctypes.c_uint32(_KILL)), "architectures")
        for name in DENIED:
            _deny(library, context, name)
        # The kernel reads 32 bits of an ioctl's request: what is above them must not hide it.
        for request in (TIOCSTI, TIOCLINUX):
            _deny(library, context, "ioctl", _Compare(1, _MASKED_EQUAL, _LOW, request))
        for bit in (1 << n for n in range(32) if _NEW_NAMESPACES & 1 << n):
            _deny(library, context, "clone", _Compare(0, _MASKED_EQUAL, bit, bit))
        # Its flags are in memory, where no filter can look: glibc takes clone instead when told that there is none.
        _deny(library, context, "clone3", code=errno.ENOSYS)
        for name in ("socket", "socketpair"):
            for compare in _other_than(SOCKET_FAMILIES):
                _deny(library, context, name, compare)
        for compare in _other_personality():
            _deny(library, context, "personality", compare)
        descriptor = os.memfd_create("bottle-seccomp", os.MFD_CLOEXEC)
        try:
            _check(library.seccomp_export_bpf(context, descriptor), "the program")
            os.lseek(descriptor, 0, os.SEEK_SET)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor
    finally:
        library.seccomp_release(context)


def program() -> bytes:
    """Return the filter program's bytes."""
    descriptor = sealed_fd()
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _library() -> Any:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise BackendError(
            f"{LIBRARY} is missing: without its filter no sandbox is started",
            place="local backend",
            hint="apt-get install -y libseccomp2",
        ) from error
    library.seccomp_init.restype = ctypes.c_void_p
    return library


def _deny(library: Any, context: Any, name: str, *compares: _Compare, code: int = errno.EPERM) -> None:
    number = library.seccomp_syscall_resolve_name(name.encode())
    number = NUMBERS.get(name, number) if number < 0 else number
    if number < 0:  # this architecture, or this libseccomp, does not know the call
        return
    array = (_Compare * max(1, len(compares)))(*compares)
    action = ctypes.c_uint32(_ERRNO | code)
    _check(library.seccomp_rule_add_array(context, action, number, len(compares), array), name)


def _other_than(allowed: Collection[int]) -> Iterator[_Compare]:
    """Yield what finds every 32-bit argument that is none of some small numbers.

    The kernel reads an int where the filter sees 64 bits, so a plain comparison misses a number with a bit set above.
    """
    small = max(allowed).bit_length()
    for number in set(range(1 << small)) - set(allowed):
        yield _Compare(0, _MASKED_EQUAL, _LOW, number)
    for position in range(small, 32):
        yield _Compare(0, _MASKED_EQUAL, 1 << position, 1 << position)


def _other_personality() -> Iterator[_Compare]:
    """Yield what finds a personality with a bit that is not allowed, but for the question."""
    top = 1 << 31
    for bit in (1 << position for position in range(31)):
        yield _Compare(0, _MASKED_EQUAL, top | bit, top)  # all bits are the question, and this is not all
        if not bit & PERSONALITIES:
            yield _Compare(0, _MASKED_EQUAL, top | bit, bit)


def _check(result: int, what: str) -> None:
    if result != 0:
        raise BackendError(f"libseccomp refuses {what}: {os.strerror(-result)}", place=LIBRARY)
