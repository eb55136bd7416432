"""The walls around a program that nobody trusts, which the kernel holds: for root as for anybody, and for good."""

import ctypes
import os
import resource
from collections.abc import Collection, Sequence
from typing import NamedTuple

from engine.sandbox import landlock, seccomp

WALLS = ("landlock", "seccomp", "namespaces")
NEEDED = ("landlock", "seccomp")  # with these alone every promise holds; containers often refuse namespaces
KIB, MIB = 2**10, 2**20
NEW_USER, NEW_PROCESSES, NEW_NETWORK, NEW_IPC = 0x10000000, 0x20000000, 0x40000000, 0x08000000
SET_DEATH_SIGNAL, KILL = 1, 9
OPEN_FILES = 64
STACK = 8 * MIB


class ProgramLimits(NamedTuple):
    """What one program may use."""

    cpu_seconds: int
    seconds: float
    """By the clock."""
    memory_mib: int
    output_kib: int
    """What it prints, and likewise the size of a file."""


def standing() -> dict[str, str]:
    """Return wall -> "" if this machine gives it, else what is missing."""
    has = landlock.version()
    kernel = f"Landlock {landlock.LEAST} (Linux 6.2), found {f'version {has}' if has else 'none'}"
    return {
        "landlock": "" if has >= landlock.LEAST else f"needs {kernel}",
        "seccomp": "" if seccomp.is_standing() else f"needs seccomp filters on {' or '.join(seccomp.MACHINES)}",
        "namespaces": ""
        if _can_unshare()
        else "needs user namespaces; see sysctl user.max_user_namespaces, and what the container allows",
    }


def raise_walls(walls: Collection[str], limits: ProgramLimits, *, read: Sequence[str], write: Sequence[str]) -> None:
    """Shut this process in; it should become the program at once. With namespaces it forks: the first process only waits.

    Raises:
        OSError: a wall does not stand after all.
    """
    steps = seccomp.program() if "seccomp" in walls else b""  # read while files can still be opened
    _die_with_parent()
    if "namespaces" in walls:
        _unshare()
        _become_first()
    _limit(limits)
    if "landlock" in walls or "seccomp" in walls:
        _give_up_powers()
    if "landlock" in walls:
        landlock.confine(read=read, write=write)
    if steps:
        seccomp.confine(steps)


def _unshare() -> None:
    """Its own users, processes, network (without even a loopback that is up) and System V IPC."""
    if landlock.LIBC.unshare(NEW_USER | NEW_PROCESSES | NEW_NETWORK | NEW_IPC):
        error = ctypes.get_errno()
        raise OSError(error, f"unshare: {os.strerror(error)}")


def _become_first() -> None:
    """Go on as the first process of the new namespace, whose end is the end of all in it."""
    if child := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os._exit(code if code >= 0 else 128 - code)
    _die_with_parent()


def _die_with_parent() -> None:
    landlock.LIBC.prctl(SET_DEATH_SIGNAL, ctypes.c_ulong(KILL), *[ctypes.c_ulong(0)] * 3)


def _give_up_powers() -> None:
    """Root's capabilities too, and for good: with no_new_privs no program gives them back."""
    seccomp.set_no_new_privs()
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    landlock.LIBC.capset(header, nothing)


def _limit(limits: ProgramLimits) -> None:
    """Soft and hard alike."""
    resources = {
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_AS: limits.memory_mib * MIB,
        resource.RLIMIT_FSIZE: limits.output_kib * KIB,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_NPROC: 1,  # root is exempt: what counts is that seccomp refuses to start a process
        resource.RLIMIT_STACK: STACK,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for name, most in resources.items():
        hard = resource.getrlimit(name)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(name, (most, most))


def _can_unshare() -> bool:
    """Tried in a process of its own, for there is no way back."""
    if not (child := os.fork()):
        try:
            _unshare()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
