"""Where a model's weights lie."""

from pathlib import Path

from engine.errors import ModelError
from engine.inference.bundled import BUNDLED, carried, unpack


def locate(path: str, *, root: str, home: str) -> Path:
    """Return the folder of the model that a contract calls `path`.

    A name that a package carries is unpacked below `home`; anything else is a folder, relative to `root` or absolute.

    Raises:
        ModelError: there is no such folder, or it is no Hugging Face model.
    """
    return unpack(path, Path(home)) if path in BUNDLED else _folder(path, root)


def check(path: str, *, root: str, home: str) -> None:
    """Do as `locate`, but unpack nothing.

    Raises:
        ModelError: `locate` would raise it.
    """
    if path not in BUNDLED:
        _folder(path, root)
    elif not Path(home, path).is_dir():
        carried(path)


def _folder(path: str, root: str) -> Path:
    folder = Path(root, path).resolve()
    if not folder.is_dir():
        raise ModelError(
            f"model {path!r}: there is no folder {folder}. Give the path of a Hugging Face folder, or one of {sorted(BUNDLED)}."
        )
    if not (folder / "config.json").is_file():
        raise ModelError(f"model {path!r}: {folder} has no config.json, so it is no Hugging Face folder.")
    return folder
