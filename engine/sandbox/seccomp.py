"""A filter of system calls: those of `calls.txt` are made, any other fails with EPERM (man 2 seccomp; BPF: McCanne, 1993)."""

import ctypes
import errno
import os
import platform
import struct
from pathlib import Path
from typing import NamedTuple

LIBC = ctypes.CDLL(None, use_errno=True)
SET_NO_NEW_PRIVS, SET_SECCOMP, FILTER = 38, 22, 2
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column of calls.txt, the kernel's word for it
LOAD, MASK, IS, RETURN = 0x20, 0x54, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM


class Harmless(NamedTuple):
    """A form of a call: each (half, mask, value) holds, where half counts the 32-bit halves of its arguments."""

    call: str
    tests: tuple[tuple[int, int, int], ...]


FORMS = (
    Harmless("fcntl", ((2, ~7, 0),)),  # descriptors and locks, but not F_SETOWN, which lets the kernel send a signal
    Harmless("fcntl", ((2, ~0, 1030),)),  # F_DUPFD_CLOEXEC
    Harmless("ioctl", ((2, ~0, 0x5401),)),  # TCGETS: is it a terminal?
    Harmless("ioctl", ((2, ~0, 0x5421),)),  # FIONBIO
    Harmless("ioctl", ((2, ~0, 0x5450),)),  # FIONCLEX
    Harmless("ioctl", ((2, ~0, 0x5451),)),  # FIOCLEX
    Harmless("socketpair", ((0, ~0, 1), (2, 15, 1))),  # AF_UNIX, SOCK_STREAM: a pipe to itself, as asyncio makes one
    Harmless("prlimit64", ((4, ~0, 0), (5, ~0, 0))),  # reads a limit, sets none
)


def program() -> bytes:
    """Return the filter for this machine.

    Raises:
        KeyError: the numbers of this machine's calls are not known here.
    """
    column, machine = MACHINES[platform.machine()]
    head = _step(LOAD, 4) + _step(IS, machine, 1, 0) + _step(RETURN, REFUSE)
    formed = {form.call for form in FORMS}
    calls = _calls(column)
    rules = [_rule(number, ()) for name, number in calls.items() if name not in formed]
    rules += [_rule(calls[form.call], form.tests) for form in FORMS]
    return head + b"".join(rules) + _step(RETURN, REFUSE)


def is_standing() -> bool:
    """Return whether this machine can filter calls."""
    found = Path("/proc/sys/kernel/seccomp/actions_avail")
    return platform.machine() in MACHINES and found.exists() and "errno" in found.read_text().split()


def confine(steps: bytes) -> None:
    """From now on this thread, and what it starts, makes the calls that the filter `steps` allows and no others.

    Raises:
        OSError: the kernel refuses.
    """
    held = ctypes.create_string_buffer(steps, len(steps))
    whole = ctypes.create_string_buffer(struct.pack("HP", len(steps) // 8, ctypes.addressof(held)))
    set_no_new_privs()
    _prctl(SET_SECCOMP, FILTER, ctypes.addressof(whole))


def set_no_new_privs() -> None:
    """From now on no program that this thread becomes has more rights than it has."""
    _prctl(SET_NO_NEW_PRIVS, 1, 0)


def _prctl(option: int, first: int, second: int) -> None:
    zero = ctypes.c_ulong(0)
    if LIBC.prctl(ctypes.c_int(option), ctypes.c_ulong(first), ctypes.c_ulong(second), zero, zero):
        error = ctypes.get_errno()
        raise OSError(error, f"prctl {option}: {os.strerror(error)}")


def _calls(column: int) -> dict[str, int]:
    lines = Path(__file__).with_name("calls.txt").read_text().splitlines()
    known = [line.split() for line in lines if not line.startswith("#")]
    return {name: int(numbers[column]) for name, *numbers in known if numbers[column] != "-"}


def _rule(number: int, tests: tuple[tuple[int, int, int], ...]) -> bytes:
    """Allow a call if all tests hold; else go on behind this rule."""
    body = _step(RETURN, ALLOW)
    for half, mask, value in reversed(tests):
        body = _step(LOAD, 16 + 4 * half) + _step(MASK, mask & 0xFFFFFFFF) + _step(IS, value, 0, len(body) // 8) + body
    return _step(LOAD, 0) + _step(IS, number, 0, len(body) // 8) + body


def _step(code: int, operand: int, held: int = 0, else_: int = 0) -> bytes:
    """One instruction; `held` and `else_` say how many to skip."""
    return struct.pack("HBBI", code, held, else_, operand)
