"""Where a model's weights lie."""

from pathlib import Path

from engine.errors import ModelError
from engine.models.bundled import BUNDLED, unpack


def locate(path: str, *, root: str, home: str) -> Path:
    """Return the folder of the model that a contract calls `path`.

    A name that a package carries is unpacked below `home`; anything else is a folder, relative to `root` or absolute.

    Raises:
        ModelError: there is no such folder, or it is no Hugging Face model.
    """
    if path in BUNDLED:
        return unpack(path, Path(home))
    folder = Path(root, path).resolve()
    if not folder.is_dir():
        raise ModelError(
            f"model {path!r}: there is no folder {folder}. Give the path of a Hugging Face folder, or one of {sorted(BUNDLED)}."
        )
    if not (folder / "config.json").is_file():
        raise ModelError(f"model {path!r}: {folder} has no config.json, so it is no Hugging Face folder.")
    return folder
