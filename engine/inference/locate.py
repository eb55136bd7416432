"""The folder of a model's weights."""

from pathlib import Path

from engine.errors import ModelError
from engine.inference.bundled import BUNDLED, packaged_weights, unpack


def locate(path: str, *, root: str, home: str) -> Path:
    """Return the folder of the model that a contract calls `path`.

    The name of a bundled model is unpacked below `home`; any other path is a folder, relative to `root` or absolute.

    Raises:
        ModelError: there is no such folder, or it is not a Hugging Face model.
    """
    return unpack(path, Path(home)) if path in BUNDLED else _folder(path, root)


def check(path: str, *, root: str, home: str) -> None:
    """Check that `locate` would find the model, without unpacking it.

    Raises:
        ModelError: as `locate`.
    """
    if path not in BUNDLED:
        _folder(path, root)
    elif not Path(home, path).is_dir():
        packaged_weights(path)


def _folder(path: str, root: str) -> Path:
    folder = Path(root, path).resolve()
    if not folder.is_dir():
        raise ModelError(
            f"model {path!r}: there is no folder {folder}. Give the path of a Hugging Face folder, or one of {sorted(BUNDLED)}."
        )
    if not (folder / "config.json").is_file():
        raise ModelError(f"model {path!r}: {folder} has no config.json, so it is no Hugging Face folder.")
    return folder
