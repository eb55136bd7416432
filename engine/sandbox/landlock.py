"""Landlock: which files a process may open, for root as for anybody (docs.kernel.org/userspace-api/landlock.html)."""

import ctypes
import os
import struct
from collections.abc import Sequence

LIBC = ctypes.CDLL(None, use_errno=True)
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
PATH_BENEATH, ASK_VERSION = 1, 1
LEAST = 3  # Linux 6.2: older ones cannot forbid to truncate a file

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_FILE, MAKE_FILE, TRUNCATE = (1 << bit for bit in (0, 1, 2, 3, 5, 8, 14))
READ = EXECUTE | READ_FILE | READ_DIR
WRITE = READ_FILE | READ_DIR | WRITE_FILE | REMOVE_FILE | MAKE_FILE | TRUNCATE  # no folders, links, pipes or sockets
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
ALL_RIGHTS = {3: (1 << 15) - 1, 5: (1 << 16) - 1}  # version -> rights on files that it knows


def version() -> int:
    """Return the version that the kernel has; 0 for none."""
    return max(0, LIBC.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(ASK_VERSION)))


def confine(*, read: Sequence[str], write: Sequence[str]) -> None:
    """From now on this thread, and what it starts, opens nothing but what lies below `read` and `write`, and no TCP port.

    Raises:
        OSError: the kernel refuses.
    """
    has = version()
    rights = ALL_RIGHTS[5 if has >= 5 else 3]
    ports, scopes = (3 if has >= 4 else 0), (3 if has >= 6 else 0)  # bind and connect; abstract sockets and signals
    size = 24 if has >= 6 else 16 if has >= 4 else 8
    ruleset = _call(CREATE_RULESET, struct.pack("QQQ", rights, ports, scopes)[:size], ctypes.c_size_t(size), ctypes.c_uint(0))
    for paths, granted in ((read, READ), (write, WRITE)):
        for path in paths:
            _allow(ruleset, path, granted)
    _call(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
    os.close(ruleset)


def _allow(ruleset: int, path: str, granted: int) -> None:
    """What does not exist needs no right."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    rights = granted if os.path.isdir(path) else granted & OF_FILES
    _call(ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(PATH_BENEATH), struct.pack("=Qi", rights, place), ctypes.c_uint(0))
    os.close(place)


def _call(number: int, *given: object) -> int:
    found = LIBC.syscall(number, *given)
    if found < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"landlock: {os.strerror(error)}")
    return found
