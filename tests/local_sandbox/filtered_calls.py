"""Makes system calls behind the filter alone: no namespace, no dropped capability stands in front of it.

`filtered_calls.py CALLS`: the filter program on standard input, calls as JSON `[[number, argument…], …]`. Prints
`[[result, errno], …]`. A call that gets through is harmless with the arguments that the tests give.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def main() -> None:
    calls = json.loads(sys.argv[1])
    code = sys.stdin.buffer.read()
    os.setsid()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    program = Program(len(code) // 8, code)
    if libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel refuses the filter")
    answers = []
    parent = os.getpid()
    for number, *arguments in calls:
        ctypes.set_errno(0)
        result = libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(value & (1 << 64) - 1) for value in arguments))
        if os.getpid() != parent:  # a clone got through
            os._exit(0)
        answers.append([result, ctypes.get_errno() if result < 0 else 0])
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main()
