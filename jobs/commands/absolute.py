"""A contract whose relative paths are made absolute, so that its file can lie in another folder."""

import glob
from pathlib import Path

from pydantic import JsonValue

from engine.inference.bundled import BUNDLED
from engine.readers.below import below
from engine.storage.folder import Folder

PATHS = {"path", "source", "corpus", "run", "registry", "model", "teacher", "gold", "packages"}
"""Keys whose text may be a path."""
SEVERAL = {"tables", "tokenizers", "earlier"}
"""Keys with several paths: a mapping from names to them, or a list."""


def absolute_paths(value: JsonValue, root: str, *, is_path: bool = False) -> JsonValue:
    """Return a value of a contract with the paths of `root` made absolute: texts of PATHS that name something which is there.

    What only looks like one, such as the name of a bundled model or of a server's model, stays.
    """
    if isinstance(value, list):
        return [absolute_paths(item, root, is_path=is_path and isinstance(item, str)) for item in value]
    if isinstance(value, dict):
        return {key: _inner(key, inner, root, all_paths=is_path) for key, inner in value.items()}
    if not is_path or not isinstance(value, str) or not value or value in BUNDLED or "://" in value:
        return value
    place = Folder(below(root, value))
    if not glob.has_magic(value) and not place.exists():
        return value
    return str(Path(place.path).resolve()) if place.is_local else place.url


def _inner(key: str, value: JsonValue, root: str, *, all_paths: bool) -> JsonValue:
    are_paths = key in SEVERAL and not isinstance(value, str)
    return absolute_paths(value, root, is_path=are_paths or all_paths or (key in PATHS and isinstance(value, str)))
