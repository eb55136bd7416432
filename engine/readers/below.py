"""Relative paths of a contract, whose root is a folder or a URL."""

import posixpath
from pathlib import Path


def below(root: str, path: str) -> str:
    """Return `path` as it is from anywhere: URLs and absolute paths as they are, others from the folder or URL `root` on."""
    if "://" in path or path.startswith("/"):
        return path
    if "://" not in root:
        return str(Path(root, path))
    scheme, _, folder = root.partition("://")
    return f"{scheme}://{posixpath.normpath(f'{folder}/{path}')}"
