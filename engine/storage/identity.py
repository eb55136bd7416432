"""Hashes of the data files that a contract names, so that a changed file is noticed."""

import hashlib
from collections.abc import Collection

import fsspec

from engine.errors import InputError
from engine.readers.paths import data_files
from engine.retry import with_retries

TAGS = ("ETag", "etag", "md5", "LastModified", "last_modified", "mtime", "created")  # as file systems of fsspec call them


def file_identities(paths: Collection[str], *, root: str) -> dict[str, str]:
    """Return name of each data file of `paths` -> SHA-256 of its content, or size and tags of a remote one.

    A path without a file has the identity `missing`: the job that reads it raises the error.

    Raises:
        StoreUnreachable: the store behind a URL cannot be reached.
    """
    identities: dict[str, str] = {}
    for path in sorted(paths):
        try:
            identities |= {file.name: _identity(file.url) for file in data_files(path, root=root)}
        except InputError:
            identities[path] = "missing"
    return identities


def _identity(url: str) -> str:
    fs, inside = fsspec.url_to_fs(url)
    if "://" not in url:
        with fs.open(inside, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    info = with_retries(url, lambda: fs.info(inside))
    return ":".join(str(value) for value in (info.get("size"), *map(info.get, TAGS)) if value)
