"""Errors of workers and of full machines, as the exceptions that this project defines."""

import errno
import re
from collections.abc import Iterator

from engine import errors
from engine.errors import RayleighError, StorageError

RAISED = re.compile(r"^engine\.errors\.(\w+): (.+?)(?:\n\n|\Z)", re.MULTILINE | re.DOTALL)  # the last part of a traceback
FULL = re.compile(rf"^OSError: (\[Errno (?:{errno.ENOSPC}|{errno.EDQUOT})\] .+)$", re.MULTILINE)
NODE = re.compile(r"\b(?:ip|address|node)[ =:]+(\d+\.\d+\.\d+\.\d+)")
KEPT = "What was paid for is kept."
SHORTAGES = {
    "OutOfDiskError": (
        "the object store is full, and so is the disk to which Ray moves what does not fit: more than 95 % of it are in use. Make "
        "room on the disk of Ray's temporary folder (/tmp/ray, `ray start --temp-dir`), or put a larger one there; or let less be "
        "under way: a smaller `batch`, fewer actors of the pool `cpu`."
    ),
    "ObjectStoreFullError": (
        "the object store is full of what is still needed. Raise ray.object_store_gib of the profile (on a cluster "
        "`--object-store-memory` of its nodes); or let less be under way: a smaller `batch`, fewer actors of the pool `cpu`."
    ),
    "OutOfMemoryError": (
        "the memory is full, and Ray has ended the worker that used most. Lower `actors` or `batch` of its pool in the profile, or "
        "take nodes with more memory."
    ),
}
"""Error of Ray -> what is short on a node, and what to do."""


def unwrap_error(error: Exception) -> Exception:
    """Return the RayleighError that a worker raised or that says what is full, or `error` itself if it was another exception.

    Ray keeps the text of a worker's traceback, so the class and its message are parsed from that text. Notes are kept.
    """
    if isinstance(error, RayleighError):
        return error
    unwrapped = _raised(str(error)) or _shortage(error)
    if unwrapped is None:
        return error
    for note in getattr(error, "__notes__", []):
        unwrapped.add_note(note)
    return unwrapped


def _raised(text: str) -> Exception | None:
    match = RAISED.search(text)
    kind = getattr(errors, match[1], None) if match else None
    return kind(match[2].strip()) if match and kind else None


def _shortage(error: Exception) -> Exception | None:
    """Return what `error` says is full: a disk, the object store of a node, its memory.

    On a full disk Ray's own log fails, too, while it writes what was wrong: that is an error before it.
    """
    text = "\n".join(f"{_name(type(each))}: {each}" for each in _chain(error))
    for kind, advice in SHORTAGES.items():
        if re.search(rf"\bray\.exceptions\.{kind}\b", text):  # torch has an OutOfMemoryError, too: of a GPU
            node = NODE.search(text)
            return StorageError(f"{f'node {node[1]}' if node else 'a node'}: {advice} {KEPT}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"the disk is full: {error}. Make room there. {KEPT}")
    if match := FULL.search(text):
        return StorageError(f"the disk of a node is full: {match[1]}. Make room there. {KEPT}")
    return None


def _name(kind: type) -> str:
    """Return the name of a class as a traceback writes it."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error`, and those that it came from or that were being handled when it was raised; both, for Ray Data sets a cause."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop(0)
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += filter(None, (each.__cause__, each.__context__))
