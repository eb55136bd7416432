"""Files on a node that all its workers map into memory: made once, under a lock, and verified by their hashes when opened."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xxhash
from filelock import FileLock

from engine.errors import StorageError

DIGEST = "digest.json"
CHUNK = 1 << 24  # bytes that are hashed at once
UNUSED_SECONDS = 7 * 24 * 3600  # after which files of other trainings are removed
T = TypeVar("T")


def opened(name: str, write: Callable[[Path], None], read: Callable[[Path], T], *, home: Path | None = None) -> T:
    """Return what `read` makes of the folder `name`, which `write` has filled unless an earlier worker of this node did.

    `home` is the folder of all such folders; by default one below the folder for temporary files.

    Raises:
        StorageError: the files cannot be written, or have another owner.
    """
    folder = (home or Path(tempfile.gettempdir(), f"rayleigh-tokens-{os.getuid()}")) / name
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.parent.stat().st_uid != os.getuid():
            raise StorageError(f"{folder.parent}: belongs to another user. Remove it, or set TMPDIR to a folder of yours.")
        with FileLock(f"{folder}.lock"):
            if not _is_intact(folder):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                write(folder)
                digests = {path.name: _digest(path) for path in sorted(folder.iterdir())}
                (folder / DIGEST).write_text(json.dumps(digests))  # last: without it the files count for nothing
                _sweep(folder.parent)
            os.utime(folder)  # it is in use
            return read(folder)
    except OSError as error:
        raise StorageError(
            f"{folder}: the token ids cannot be written there: {error}. Make room, or set TMPDIR to a folder with more."
        ) from error


def mapped(path: Path, kind: Any) -> np.ndarray:
    """Return the file `path` of numbers of a `kind` as an array that is read from the disk where it is used."""
    return np.memmap(path, kind, "r") if path.stat().st_size else np.empty(0, kind)  # an empty file cannot be mapped


def _is_intact(folder: Path) -> bool:
    try:
        digests = json.loads((folder / DIGEST).read_text())
        return digests == {path.name: _digest(path) for path in folder.iterdir() if path.name != DIGEST}
    except (OSError, ValueError):
        return False


def _digest(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sweep(home: Path) -> None:
    """Remove files that no training has opened for long; one that still maps them keeps them until it ends."""
    for folder in home.iterdir():
        with suppress(OSError):
            if folder.is_dir() and folder.stat().st_mtime < time.time() - UNUSED_SECONDS:
                shutil.rmtree(folder)
