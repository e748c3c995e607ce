"""What every container of ours is held by: no capabilities, no new privileges, limits, and a system call allow-list.

The list is written for ordinary programs (shells, Python, Node, compilers, git, ssh). It names what is allowed; all
else fails with EPERM. Left out on purpose: namespaces and mounts, other processes' memory (ptrace, process_vm_*,
pidfd_getfd), kernel keyrings, io_uring, bpf, perf events, userfaultfd, and every socket family but the four below.
Not its duty: who gets which limits; the plan says that.
"""

from __future__ import annotations

import json
from typing import Any, Final

from bottle_fsm.plan.bottle_plan import digest

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
SOCKET_FAMILIES: Final = (_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK)
"""Docker's own profile lets AF_VSOCK through, which reaches past the network namespace."""
NAMESPACE_FLAGS: Final = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
TIOCSTI: Final = 0x5412
"""Pushes bytes into a terminal, as if a person typed them."""
PERSONALITIES: Final = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
_ENOSYS: Final = 38

_FILES: Final = """
access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr
flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64
futimesat getcwd getdents getdents64 getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch lchown
lchown32 lgetxattr link linkat listxattr llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat
mknod mknodat name_to_handle_at newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read
readahead readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile sendfile64 setxattr splice
stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs tee truncate truncate64 umask unlink
unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev
"""
_PROCESSES: Final = """
arch_prctl capget capset execve execveat exit exit_group fork getegid getegid32 geteuid geteuid32 getgid getgid32
getgroups getgroups32 getpgid getpgrp getpid getppid getpriority getresgid getresgid32 getresuid getresuid32 getrlimit
getrusage getsid gettid getuid getuid32 kill landlock_add_rule landlock_create_ruleset landlock_restrict_self
pidfd_open pidfd_send_signal prctl prlimit64 riscv_flush_icache riscv_hwprobe rseq sched_get_priority_max
sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp
set_robust_list get_robust_list set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups
setgroups32 setitimer getitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32
setreuid setreuid32 setrlimit setsid setuid setuid32 sysinfo times tgkill tkill ugetrlimit uname vfork wait4 waitid
waitpid ioprio_get ioprio_set getcpu set_thread_area get_thread_area
"""
_MEMORY: Final = """
brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2
mprotect mremap msync munlock munlockall munmap mseal pkey_alloc pkey_free pkey_mprotect process_madvise
process_mrelease remap_file_pages shmat shmctl shmdt shmget
"""
_WAITING: Final = """
alarm clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 futex futex_time64
futex_requeue futex_wait futex_waitv futex_wake getrandom gettimeofday io_cancel io_destroy io_getevents io_pgetevents
io_pgetevents_time64 io_setup io_submit ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd nanosleep _newselect pause pipe pipe2 poll
ppoll ppoll_time64 pselect6 pselect6_time64 restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo select semctl semget semop
semtimedop semtimedop_time64 sigaltstack signal signalfd signalfd4 sigreturn time timer_create timer_delete
timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
timerfd_gettime64 timerfd_settime timerfd_settime64
"""
_NETWORK: Final = """
accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 recvmsg
send sendmmsg sendmsg sendto setsockopt shutdown
"""
ALLOWED: Final = tuple(sorted((_FILES + _PROCESSES + _MEMORY + _WAITING + _NETWORK).split()))

SECURITY_OPTIONS: Final = ("no-new-privileges:true",)


def seccomp_profile() -> dict[str, Any]:
    """Return the profile as the engine takes it. No architecture is named: the engine's own one is meant, no other."""
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": list(ALLOWED), "action": "SCMP_ACT_ALLOW"},
            *(_when("socket", 0, "SCMP_CMP_EQ", family) for family in SOCKET_FAMILIES),
            _when("socketpair", 0, "SCMP_CMP_EQ", _AF_UNIX),
            *(_when("personality", 0, "SCMP_CMP_EQ", value) for value in PERSONALITIES),
            _when("clone", 0, "SCMP_CMP_MASKED_EQ", NAMESPACE_FLAGS, 0),
            # Its flags stand in memory, where no filter can look; told that it is missing, libc falls back to clone.
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
            *_other_than("ioctl", 1, TIOCSTI),
        ],
    }


def _when(name: str, index: int, op: str, value: int, value_two: int | None = None) -> dict[str, Any]:
    condition = {"index": index, "value": value, "op": op}
    if value_two is not None:
        condition["valueTwo"] = value_two
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [condition]}


def _other_than(name: str, index: int, value: int) -> list[dict[str, Any]]:
    """Allow a call whose 32-bit argument is not `value`: one rule per bit in which it may differ.

    A plain "not equal" compares 64 bits, while the kernel looks at 32: bits above would slip through.
    """
    bits = [1 << position for position in range(32)]
    return [_when(name, index, "SCMP_CMP_MASKED_EQ", bit, (value & bit) ^ bit) for bit in bits]


def security_options() -> list[str]:
    """Return the engine's `SecurityOpt` for every container of ours."""
    return [*SECURITY_OPTIONS, "seccomp=" + json.dumps(seccomp_profile(), sort_keys=True, separators=(",", ":"))]


def hardening_json() -> dict[str, Any]:
    """Return what of this is a creation-time input of a container, short enough for a plan."""
    return {"cap_drop": ["ALL"], "options": list(SECURITY_OPTIONS), "seccomp": digest(seccomp_profile())[:16]}
