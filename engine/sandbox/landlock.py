"""Landlock restricts which files a process, even root's, may open (docs.kernel.org/userspace-api/landlock.html)."""

import ctypes
import os
import struct
from collections.abc import Sequence

LIBC = ctypes.CDLL(None, use_errno=True)
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # system calls, with the same numbers on every architecture
RULE_PATH_BENEATH, CREATE_RULESET_VERSION = 1, 1
MIN_VERSION = 3  # Linux 6.2: earlier versions cannot forbid truncating a file

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_FILE, MAKE_FILE, TRUNCATE = (1 << bit for bit in (0, 1, 2, 3, 5, 8, 14))
READ = EXECUTE | READ_FILE | READ_DIR
WRITE = READ_FILE | READ_DIR | WRITE_FILE | REMOVE_FILE | MAKE_FILE | TRUNCATE  # no folders, links, pipes or sockets
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
ALL_RIGHTS = {3: (1 << 15) - 1, 5: (1 << 16) - 1}  # version -> all rights on files that it knows


def version() -> int:
    """Return the Landlock version of the kernel; 0 if it has none."""
    return max(0, LIBC.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(CREATE_RULESET_VERSION)))


def restrict(*, read: Sequence[str], write: Sequence[str]) -> None:
    """Let this thread and its children open only files below `read` and `write`, and no TCP port.

    Raises:
        OSError: the kernel refuses.
    """
    supported = version()
    rights = ALL_RIGHTS[5 if supported >= 5 else 3]
    ports, scopes = (3 if supported >= 4 else 0), (3 if supported >= 6 else 0)  # bind and connect; abstract sockets and signals
    size = 24 if supported >= 6 else 16 if supported >= 4 else 8
    ruleset = _syscall(CREATE_RULESET, struct.pack("QQQ", rights, ports, scopes)[:size], ctypes.c_size_t(size), ctypes.c_uint(0))
    for paths, granted in ((read, READ), (write, WRITE)):
        for path in paths:
            _allow(ruleset, path, granted)
    _syscall(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
    os.close(ruleset)


def _allow(ruleset: int, path: str, granted: int) -> None:
    """Grant rights below `path`; a path that does not exist is skipped."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    rights = granted if os.path.isdir(path) else granted & FILE_RIGHTS
    rule = struct.pack("=Qi", rights, descriptor)
    _syscall(ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(RULE_PATH_BENEATH), rule, ctypes.c_uint(0))
    os.close(descriptor)


def _syscall(number: int, *arguments: object) -> int:
    code = LIBC.syscall(number, *arguments)
    if code < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"landlock: {os.strerror(error)}")
    return code
