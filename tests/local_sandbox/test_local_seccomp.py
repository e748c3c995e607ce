from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from bottle_fsm.backend.local import seccomp
from bottle_fsm.errors import BackendError

HIGH: Final = 1 << 32
"""A bit that the kernel does not look at where it reads an int, and a filter does."""
BAD: Final = (1 << 64) - 1
"""As any argument: an address, a descriptor or a flag that the kernel itself would answer with another error."""
SIGCHLD: Final = 17
NAMESPACES: Final = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="its machine code is that of x86-64")


def number(name: str) -> int:
    found = int(ctypes.CDLL(seccomp.LIBRARY).seccomp_syscall_resolve_name(name.encode()))
    return seccomp.NUMBERS.get(name, found) if found < 0 else found


def filtered(*calls: Sequence[int]) -> list[list[int]]:
    """Return (result, errno) of each call, made behind the filter and nothing else."""
    done = subprocess.run(
        [sys.executable, "-I", str(Path(__file__).with_name("filtered_calls.py")), json.dumps(calls)],
        input=seccomp.program(),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr.decode())
    answers: list[list[int]] = json.loads(done.stdout)
    return answers


def test_every_listed_call_is_refused_whatever_its_arguments() -> None:
    names = [name for name in seccomp.DENIED if number(name) >= 0]
    answers = filtered(*[(number(name), BAD, BAD, BAD, BAD, BAD, BAD) for name in names])
    assert {name: tuple(answer) for name, answer in zip(names, answers, strict=True)} == dict.fromkeys(
        names, (-1, errno.EPERM)
    )
    assert len(names) > 60


@pytest.mark.parametrize("high", [0, HIGH])
def test_only_four_kinds_of_sockets_are_made(high: int) -> None:
    families = range(64)
    answers = filtered(*[(number("socket"), family | high, 3 if family == 16 else 1, 0) for family in families])
    made = {family for family, (result, _) in zip(families, answers, strict=True) if result >= 0}
    refused = {family for family, (_, code) in zip(families, answers, strict=True) if code == errno.EPERM}
    assert made == {1, 2, 10, 16}
    assert refused == set(families) - made


@pytest.mark.parametrize("family", [40, 38, 17, 40 | HIGH, 40 | 1 << 16, 1 | 1 << 31])
def test_no_vsock_and_no_packet_socket_hides_behind_other_bits(family: int) -> None:
    assert (
        filtered((number("socket"), family, 1, 0), (number("socketpair"), family, 1, 0, 0)) == [[-1, errno.EPERM]] * 2
    )


@pytest.mark.parametrize("high", [0, HIGH, BAD - 0xFFFFFFFF])
def test_nothing_is_typed_into_a_terminal(high: int) -> None:
    requests = (seccomp.TIOCSTI, seccomp.TIOCLINUX)
    assert filtered(*[(number("ioctl"), 0, request | high, BAD) for request in requests]) == [[-1, errno.EPERM]] * 2


def test_other_requests_to_a_terminal_get_through() -> None:
    tcgets, winsize = 0x5401, 0x5413
    answers = filtered(*[(number("ioctl"), 0, request, BAD) for request in (tcgets, winsize)])
    assert [code for _, code in answers] == [errno.ENOTTY] * 2


def test_no_namespace_is_made_by_any_call() -> None:
    answers = filtered(
        *[(number("clone"), flag | SIGCHLD, 0, 0, 0, 0) for flag in NAMESPACES],
        *[(number("unshare"), flag) for flag in (*NAMESPACES, 0x80)],
        (number("setns"), 0, 0),
    )
    assert answers == [[-1, errno.EPERM]] * len(answers)


def test_threads_and_processes_still_begin() -> None:
    answers = filtered((number("clone"), SIGCHLD, 0, 0, 0, 0), (number("clone3"), BAD, BAD))
    assert answers[0][0] > 0
    assert answers[1] == [-1, errno.ENOSYS]


@pytest.mark.parametrize("value", [0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF])
def test_a_common_personality_is_allowed(value: int) -> None:
    assert filtered((number("personality"), value))[0][0] >= 0


@pytest.mark.parametrize(
    "value", [0x40000, 0x400000, 0x100000, 0x1, 0x80000000, 0xFFFFFFFE, 0x7FFFFFFF, 0x40000 | HIGH]
)
def test_a_personality_that_weakens_memory_is_refused(value: int) -> None:
    assert filtered((number("personality"), value)) == [[-1, errno.EPERM]]


@x86_64
@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("i386's getpid by int 0x80", b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"),
        ("x32's getpid", b"\xb8\x27\x00\x00\x40\x0f\x05\xc3"),
    ],
)
def test_a_call_of_a_foreign_architecture_ends_the_process(what: str, code: bytes) -> None:
    script = f"""
import ctypes, mmap, sys
sys.path[0:0] = [{str(Path(__file__).parent)!r}]
from filtered_calls import Program
m = mmap.mmap(-1, 4096, prot=7)
m.write({code!r})
call = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(m)))
libc = ctypes.CDLL(None)
program = sys.stdin.buffer.read()
libc.prctl(38, 1, 0, 0, 0)
if sys.argv[1] == "filtered":
    assert libc.prctl(22, 2, ctypes.byref(Program(len(program) // 8, program)), 0, 0) == 0
call()
"""

    def run(how: str) -> int:
        words = [sys.executable, "-c", script, how]
        return subprocess.run(words, input=seccomp.program(), check=False, capture_output=True, timeout=30).returncode

    assert run("unfiltered") in {0, -signal.SIGSEGV}, what
    assert run("filtered") == -signal.SIGSYS, what


def test_the_program_is_whole_instructions_and_few_enough_for_the_kernel() -> None:
    code = seccomp.program()
    assert len(code) % 8 == 0
    assert 100 < len(code) // 8 <= 4096


def test_the_descriptor_stands_at_the_beginning_and_is_not_inherited() -> None:
    descriptor = seccomp.sealed_fd()
    try:
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0
        assert os.get_inheritable(descriptor) is False
    finally:
        os.close(descriptor)


def test_without_the_library_there_is_no_filter_but_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "LIBRARY", "libseccomp-that-is-not-there.so.2")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(BackendError, match="no sandbox is started") as caught:
        seccomp.program()
    assert "libseccomp2" in str(caught.value.hint)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
