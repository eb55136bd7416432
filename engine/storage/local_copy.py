"""Engines load from a local folder only: a folder behind a URL is copied first."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from engine.storage.folder import Folder

_place: str | None = None


def keep_copies_in(folder: str) -> None:
    """Let copies that this process makes from now on be below `folder`, which somebody else removes."""
    global _place
    _place = folder


def local_copy(folder: Folder) -> tuple[Path, TemporaryDirectory[str] | None]:
    """Return a local folder with the content of `folder`, and the temporary folder that holds it if it had to be copied.

    The copy lives as long as the temporary folder is referred to.

    Raises:
        StorageError: the store cannot be reached.
    """
    if folder.is_local:
        return Path(folder.path), None
    copy = TemporaryDirectory(prefix="rayleigh-", dir=_place)
    for name in folder.files():
        target = Path(copy.name, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.with_retries(name, partial(folder.fs.get_file, f"{folder.path}/{name}", str(target)))
    return Path(copy.name), copy
