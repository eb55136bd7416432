"""Kernel mechanisms and resource limits that confine this process before it becomes an untrusted program; they cannot be undone."""

import ctypes
import os
import resource
from collections.abc import Collection, Sequence
from typing import NamedTuple

from engine.sandbox import landlock, seccomp

MECHANISMS = ("landlock", "seccomp", "namespaces")
REQUIRED = ("landlock", "seccomp")  # these alone hold every promise of the README; containers often refuse namespaces
KIB, MIB = 2**10, 2**20
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC = 0x10000000, 0x20000000, 0x40000000, 0x08000000
PR_SET_PDEATHSIG, SIGKILL = 1, 9
CAPABILITY_VERSION_3 = 0x20080522
OPEN_FILES = 64
STACK = 8 * MIB


class ProgramLimits(NamedTuple):
    """Resources that one program may use."""

    cpu_seconds: int
    seconds: float
    """Wall-clock time."""
    memory_mib: int
    """Address space."""
    output_kib: int
    """Printed output; also the size of one file and of the folder."""


def missing_support() -> dict[str, str]:
    """Return mechanism -> "" if this machine supports it, else what is missing."""
    version = landlock.version()
    kernel = f"Landlock {landlock.MIN_VERSION} (Linux 6.2), found {f'version {version}' if version else 'none'}"
    users = "user namespaces; see sysctl user.max_user_namespaces, and what the container allows"
    return {
        "landlock": "" if version >= landlock.MIN_VERSION else f"needs {kernel}",
        "seccomp": "" if seccomp.is_supported() else f"needs seccomp filters on {' or '.join(seccomp.MACHINES)}",
        "namespaces": "" if _can_unshare() else f"needs {users}",
    }


def isolate(mechanisms: Collection[str], limits: ProgramLimits, *, read: Sequence[str], write: Sequence[str]) -> None:
    """Confine this process, which should call `execve` at once. With namespaces it forks, and the first process only waits.

    Args:
        read: files and folders that may be read and executed.
        write: folders in which files may also be created, changed and removed.

    Raises:
        OSError: the kernel refuses a mechanism.
    """
    syscall_filter = seccomp.build_filter() if "seccomp" in mechanisms else b""  # read while files can still be opened
    _die_with_parent()
    if "namespaces" in mechanisms:
        _unshare()
        _fork_into_namespace()
    _set_limits(limits)
    if "landlock" in mechanisms or "seccomp" in mechanisms:
        _drop_capabilities()
    if "landlock" in mechanisms:
        landlock.restrict(read=read, write=write)
    if syscall_filter:
        seccomp.install(syscall_filter)


def _unshare() -> None:
    """Enter new namespaces of users, processes, network (without a loopback that is up) and System V IPC."""
    if landlock.LIBC.unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC):
        error = ctypes.get_errno()
        raise OSError(error, f"unshare: {os.strerror(error)}")


def _fork_into_namespace() -> None:
    """Continue as process 1 of the new namespace: when it ends, the kernel ends all other processes in it."""
    if child := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os._exit(code if code >= 0 else 128 - code)
    _die_with_parent()


def _die_with_parent() -> None:
    landlock.LIBC.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(SIGKILL), *[ctypes.c_ulong(0)] * 3)


def _drop_capabilities() -> None:
    """Drop all capabilities, also root's; with no_new_privs no program can get them back."""
    seccomp.set_no_new_privs()
    header, none = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    landlock.LIBC.capset(header, none)


def _set_limits(limits: ProgramLimits) -> None:
    resources = {
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_AS: limits.memory_mib * MIB,
        resource.RLIMIT_FSIZE: limits.output_kib * KIB,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_NPROC: 1,  # not enforced for root: there seccomp refuses to start a process
        resource.RLIMIT_STACK: STACK,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for name, value in resources.items():
        hard = resource.getrlimit(name)[1]
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (limit, limit))


def _can_unshare() -> bool:
    """Try it in a forked process, because namespaces cannot be left."""
    if not (child := os.fork()):
        try:
            _unshare()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
