"""A seccomp filter: system calls in `calls.txt` are allowed, all others fail with EPERM (man 2 seccomp; BPF: McCanne, 1993)."""

import ctypes
import errno
import os
import platform
import struct
from pathlib import Path
from typing import NamedTuple

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column of calls.txt, AUDIT_ARCH of the kernel
LOAD, AND, JUMP_IF_EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06  # BPF opcodes
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM


class ArgumentRule(NamedTuple):
    """A call that is allowed only with these arguments: (half, mask, value), where half counts 32-bit halves of the arguments."""

    call: str
    tests: tuple[tuple[int, int, int], ...]


ARGUMENT_RULES = (
    ArgumentRule("fcntl", ((2, ~7, 0),)),  # descriptors and locks, but not F_SETOWN, which makes the kernel send a signal
    ArgumentRule("fcntl", ((2, ~0, 1030),)),  # F_DUPFD_CLOEXEC
    ArgumentRule("ioctl", ((2, ~0, 0x5401),)),  # TCGETS, for isatty
    ArgumentRule("ioctl", ((2, ~0, 0x5421),)),  # FIONBIO
    ArgumentRule("ioctl", ((2, ~0, 0x5450),)),  # FIONCLEX
    ArgumentRule("ioctl", ((2, ~0, 0x5451),)),  # FIOCLEX
    ArgumentRule("socketpair", ((0, ~0, 1), (2, 15, 1))),  # AF_UNIX, SOCK_STREAM: asyncio's pipe to itself
    ArgumentRule("prlimit64", ((4, ~0, 0), (5, ~0, 0))),  # reads a limit, sets none
)


def build_filter() -> bytes:
    """Return the BPF program for this machine.

    Raises:
        KeyError: `calls.txt` has no numbers for this machine.
    """
    column, machine = MACHINES[platform.machine()]
    head = _instruction(LOAD, 4) + _instruction(JUMP_IF_EQUAL, machine, 1, 0) + _instruction(RETURN, REFUSE)
    restricted = {rule.call for rule in ARGUMENT_RULES}
    calls = _calls(column)
    rules = [_allow(number, ()) for name, number in calls.items() if name not in restricted]
    rules += [_allow(calls[rule.call], rule.tests) for rule in ARGUMENT_RULES]
    return head + b"".join(rules) + _instruction(RETURN, REFUSE)


def is_supported() -> bool:
    """Return whether this machine can filter system calls, and their numbers are known."""
    actions = Path("/proc/sys/kernel/seccomp/actions_avail")
    return platform.machine() in MACHINES and actions.exists() and "errno" in actions.read_text().split()


def install(program: bytes) -> None:
    """Let this thread and its children make only the calls that the filter `program` allows.

    Raises:
        OSError: the kernel refuses.
    """
    instructions = ctypes.create_string_buffer(program, len(program))
    sock_fprog = ctypes.create_string_buffer(struct.pack("HP", len(program) // 8, ctypes.addressof(instructions)))
    set_no_new_privs()
    _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(sock_fprog))


def set_no_new_privs() -> None:
    """From now on `execve` grants this thread no more privileges than it has."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1, 0)


def _prctl(option: int, first: int, second: int) -> None:
    zero = ctypes.c_ulong(0)
    if LIBC.prctl(ctypes.c_int(option), ctypes.c_ulong(first), ctypes.c_ulong(second), zero, zero):
        error = ctypes.get_errno()
        raise OSError(error, f"prctl {option}: {os.strerror(error)}")


def _calls(column: int) -> dict[str, int]:
    lines = Path(__file__).with_name("calls.txt").read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    return {name: int(numbers[column]) for name, *numbers in rows if numbers[column] != "-"}


def _allow(number: int, tests: tuple[tuple[int, int, int], ...]) -> bytes:
    """Allow a call if all tests hold; else continue after this rule."""
    body = _instruction(RETURN, ALLOW)
    for half, mask, value in reversed(tests):
        compare = _instruction(JUMP_IF_EQUAL, value, 0, len(body) // 8)
        body = _instruction(LOAD, 16 + 4 * half) + _instruction(AND, mask & 0xFFFFFFFF) + compare + body
    return _instruction(LOAD, 0) + _instruction(JUMP_IF_EQUAL, number, 0, len(body) // 8) + body


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """Return one BPF instruction; `if_true` and `if_false` are numbers of instructions to skip."""
    return struct.pack("HBBI", code, if_true, if_false, operand)
