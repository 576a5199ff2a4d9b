"""What the kernel takes from a process: files by Landlock, system calls by seccomp, the network.

A process enters by :func:`enter`, of its own accord and for good. Linux only.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

FILE_BYTES: Final = 4 * 2**30
"""Largest file that a caged process can write."""
_OPEN_FILES: Final = 4096
_THREADS: Final = 4096
_READABLE: Final = (
    *("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/usr/share/zoneinfo"),
    *("/etc/ld.so.cache", "/etc/localtime"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version"),
    *("/proc/sys/vm", "/proc/driver/nvidia", "/sys/devices/system", "/sys/module/nvidia"),
    "/sys/kernel/mm/transparent_hugepage",
)
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


@dataclass(frozen=True)
class Grants:
    """What a caged process may touch besides the Python installation and its temporary folder.

    Attributes:
        read: files and folders that it may read.
        write: folders that it may read and write.
        processes: whether it may start other programs, which are caged with it.
        memory_mb: limit of its own data in units of 10⁶ bytes; ``None`` for no limit.
    """

    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    processes: bool = False
    memory_mb: int | None = None

    def to_json(self) -> str:
        """The grants as text for the environment of the process."""
        return json.dumps(
            {
                "read": [str(path) for path in self.read],
                "write": [str(path) for path in self.write],
                "processes": self.processes,
                "memory_mb": self.memory_mb,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Grants:
        """The inverse of :meth:`to_json`."""
        found = json.loads(text)
        read, write = (tuple(map(Path, found[name])) for name in ("read", "write"))
        return cls(read, write, found["processes"], found["memory_mb"])


@cache
def unavailable() -> str:
    """Why this system cannot hold a cage; ``""`` where it can."""
    if sys.platform != "linux":
        return "cages need Linux"
    if landlock_version() < _ABI_TRUNCATE:
        return "cages need Landlock in the kernel (Linux 6.2 or newer, with landlock in its `lsm`)"
    try:
        _seccomp()
    except (ImportError, RuntimeError, OSError):
        return "cages need the library libseccomp (Debian and Ubuntu: apt install libseccomp2)"
    return ""


def enter(grants: Grants) -> None:
    """Cage this process for good. It must not have started a thread yet.

    Raises:
        OSError: the kernel refused; nothing of a bundle may run then.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    filter_ = _call_filter(grants)  # its library is found in places that are closed later
    _limit(grants)
    with suppress(OSError):  # seccomp holds the network alone where namespaces are not allowed
        _call(libc.unshare, _NEW_USER | _NEW_NETWORK | _NEW_IPC)
        # Threads count for a user as a whole; those of a namespace also on their own.
        resource.setrlimit(resource.RLIMIT_NPROC, _least(resource.RLIMIT_NPROC, _THREADS))
    _drop_capabilities(libc)
    _call(libc.prctl, _SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    _call(libc.prctl, _SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _restrict_files(libc, grants)
    filter_.load()


def _limit(grants: Grants) -> None:
    """Limits that the process inherits and cannot raise; become the first to go without memory."""
    os.umask(0o077)
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: FILE_BYTES}
    limits[resource.RLIMIT_NOFILE] = _OPEN_FILES
    if grants.memory_mb is not None:
        limits[resource.RLIMIT_DATA] = grants.memory_mb * 10**6
    for what, most in limits.items():
        resource.setrlimit(what, _least(what, most))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _least(what: int, most: int) -> tuple[int, int]:
    """A limit, soft and hard, that is no higher than the present one."""
    _, hard = resource.getrlimit(what)
    least = most if hard == resource.RLIM_INFINITY else min(most, hard)
    return least, least


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Take what root may do besides, here and (by the bounding set) in programs that it starts.

    Raises:
        OSError: the kernel refused.
    """
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for number in range(last + 1):
        with suppress(OSError):  # EPERM: this process has none to begin with
            _call(libc.prctl, _DROP_FROM_BOUNDING_SET, number, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _call(libc.capset, header, (ctypes.c_uint32 * 6)())


# Landlock, by ctypes: glibc has no functions for it, and its one Python package is an alpha.

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_NEW_USER, _NEW_NETWORK, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000
_SET_DEATH_SIGNAL, _DROP_FROM_BOUNDING_SET, _SET_NO_NEW_PRIVILEGES = 1, 24, 38
_CAPABILITY_VERSION = 0x20080522
_ABI_TRUNCATE, _ABI_NETWORK, _ABI_DEVICES, _ABI_SCOPES = 3, 4, 5, 6

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_FOLDER = 1, 2, 4, 8
_TRUNCATE, _DEVICE_CONTROL = 1 << 14, 1 << 15
_EVERYTHING = (1 << 15) - 1  # up to truncate
# Devices, sockets, pipes; and symbolic links, which somebody outside of the cage could follow.
_SPECIAL_FILES = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _DEVICE_CONTROL
_READ = _EXECUTE | _READ_FILE | _READ_FOLDER
_READ_AND_WRITE = _EVERYTHING & ~_SPECIAL_FILES & ~_EXECUTE
_ALL_NETWORK = 3  # bind and connect TCP
_ALL_SCOPES = 3  # abstract sockets and signals outside the cage


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scopes", ctypes.c_uint64),
    )


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def landlock_version() -> int:
    """Version of Landlock in this kernel, 0 for none."""
    libc = ctypes.CDLL(None, use_errno=True)
    return max(int(libc.syscall(_CREATE_RULESET, None, 0, 1)), 0)


def _restrict_files(libc: ctypes.CDLL, grants: Grants) -> None:
    version = landlock_version()
    if version < _ABI_TRUNCATE:
        raise OSError(errno.ENOSYS, "no Landlock")
    handled = _EVERYTHING | (_DEVICE_CONTROL if version >= _ABI_DEVICES else 0)
    network = _ALL_NETWORK if version >= _ABI_NETWORK else 0
    scopes = _ALL_SCOPES if version >= _ABI_SCOPES else 0
    ruleset = _Ruleset(handled, network, scopes)
    size = 24 if scopes else 16 if network else 8  # older kernels refuse fields they don't know
    rules = _call(libc.syscall, _CREATE_RULESET, ctypes.byref(ruleset), size, 0)
    try:
        for path, allowed in _file_rules(grants):
            _allow(libc, rules, path, allowed & handled)
        _call(libc.syscall, _RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _file_rules(grants: Grants) -> Iterator[tuple[Path, int]]:
    installation = (sys.prefix, sys.base_prefix, sys.exec_prefix, *filter(None, sys.path))
    for name in dict.fromkeys((*installation, *_READABLE)):
        yield Path(name), _READ
    for path in grants.read:
        yield path, _READ & ~_EXECUTE
    # Not tempfile.gettempdir(): it would be /tmp where the disk of this one is full.
    for path in (Path(os.environ["TMPDIR"]), *grants.write):
        yield path, _READ_AND_WRITE
    for path in map(Path, _DEVICES):
        yield path, _READ_FILE | _WRITE_FILE
    for path in Path("/dev").glob("nvidia*"):
        yield path, _READ | _WRITE_FILE | _DEVICE_CONTROL


def _allow(libc: ctypes.CDLL, rules: int, path: Path, allowed: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not on this machine, or not for this user
        return
    try:
        kept = allowed if path.is_dir() else allowed & _ON_FILES
        _call(libc.syscall, _ADD_RULE, rules, 1, ctypes.byref(_PathRule(kept, place)), 0)
    finally:
        os.close(place)


def _call(function: Any, *arguments: Any) -> int:
    result = int(function(*arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# System calls: only what is listed is possible. Landlock limits those that name a path as well.

_ALLOWED: Final = _names(
    """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 close close_range open
    openat openat2 creat access faccessat faccessat2 stat fstat lstat newfstatat statx lseek statfs
    fstatfs getcwd chdir fchdir readlink readlinkat getdents getdents64 mkdir mkdirat rmdir unlink
    unlinkat rename renameat renameat2 link linkat symlink symlinkat truncate ftruncate
    fallocate fadvise64 fsync fdatasync sync_file_range readahead copy_file_range sendfile splice
    tee flock dup dup2 dup3 pipe pipe2 socketpair eventfd eventfd2 poll ppoll select pselect6
    epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 timerfd_create
    timerfd_settime timerfd_gettime memfd_create
    mmap munmap mremap mprotect madvise brk mlock mlock2 munlock mincore msync membarrier mbind
    get_mempolicy set_mempolicy
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack
    futex futex_waitv set_robust_list get_robust_list rseq set_tid_address restart_syscall
    arch_prctl exit exit_group
    gettid getpid getppid getpgrp getpgid getsid getuid geteuid getgid getegid getgroups getresuid
    getresgid capget uname sysinfo getrusage getrlimit setrlimit getcpu getrandom times time
    gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep getitimer setitimer alarm
    timer_create timer_settime timer_gettime timer_getoverrun timer_delete
    sched_yield sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max
    sched_get_priority_min getpriority
    """
)
_ALLOWED_WITH_PROCESSES: Final = _names(
    """
    fork vfork execve execveat wait4 waitid
    """
)
# Libraries call these on files and threads of their own. Landlock does not limit them, and they
# could reach those of anybody else: they seem to succeed, and nothing happens. With another umask
# what is written for the parent could be everybody's to change.
_PRETENDED: Final = _names(
    """
    chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat utimensat
    sched_setaffinity sched_setscheduler sched_setparam sched_setattr setpriority ioprio_set umask
    """
)
_UNSUPPORTED: Final = _names(
    """
    setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
    removexattr lremovexattr fremovexattr
    """
)
_THREAD: Final = 0x10000  # CLONE_THREAD
_NAMESPACES: Final = 0x7E020000  # CLONE_NEWNS and the like
# Requests to devices by their second byte: those of NVIDIA's drivers, and by their number: about
# terminals and descriptors. Others change the attributes of files that may only be read, or send
# signals to the process that they name.
_IOCTL_KINDS: Final = (0x00, 0x46)
_IOCTL: Final = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# Name of a thread or of a mapping, and harmless questions.
_PRCTL: Final = (3, 15, 16, 23, 39, 40, 41, 42, 0x53564D41)
# Descriptors, flags, locks, sizes of pipes and seals; not who gets signals.
_FCNTL: Final = (*range(8), 36, 37, 38, *range(1030, 1035))


def _seccomp() -> ModuleType:
    import pyseccomp  # noqa: PLC0415  Linux only

    module: ModuleType = pyseccomp
    return module


def _call_filter(grants: Grants) -> Any:
    """The filter of system calls, to be loaded when everything else is in place."""
    seccomp = _seccomp()
    rules = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))

    def add(action: int, names: Iterable[str], *conditions: Any) -> None:
        for name in names:
            with suppress(OSError, ValueError):  # a call that this system or library doesn't know
                rules.add_rule(action, name, *conditions)

    me = os.getpid()
    add(seccomp.ALLOW, _ALLOWED)
    add(seccomp.ERRNO(0), _PRETENDED)
    add(seccomp.ERRNO(errno.ENOTSUP), _UNSUPPORTED)
    # glibc falls back to clone, whose flags can be checked, only where clone3 seems not to exist.
    add(seccomp.ERRNO(errno.ENOSYS), ["clone3"])
    add(seccomp.ALLOW, ["prlimit64"], seccomp.Arg(0, seccomp.EQ, 0))
    for what in _PRCTL:
        add(seccomp.ALLOW, ["prctl"], seccomp.Arg(0, seccomp.EQ, what))
    for what in _FCNTL:
        add(seccomp.ALLOW, ["fcntl"], seccomp.Arg(1, seccomp.EQ, what))
    for kind in _IOCTL_KINDS:
        add(seccomp.ALLOW, ["ioctl"], seccomp.Arg(1, seccomp.MASKED_EQ, 0xFF00, kind << 8))
    for what in _IOCTL:
        add(seccomp.ALLOW, ["ioctl"], seccomp.Arg(1, seccomp.EQ, what))
    add(seccomp.ALLOW, ["kill", "tgkill"], seccomp.Arg(0, seccomp.EQ, me))
    kind = 0 if grants.processes else _THREAD
    flags = seccomp.Arg(0, seccomp.MASKED_EQ, kind | _NAMESPACES, kind)
    add(seccomp.ALLOW, ["clone"], flags)
    if grants.processes:
        add(seccomp.ALLOW, _ALLOWED_WITH_PROCESSES)
        if landlock_version() >= _ABI_SCOPES:  # which keeps signals in the cage
            add(seccomp.ALLOW, ["kill", "tgkill"])
    return rules
