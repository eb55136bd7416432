"""Data files that a path of the contract names, and a hash of their content, so that a changed file is noticed."""

import glob
import hashlib
from collections.abc import Collection
from pathlib import Path

import fsspec

from engine.errors import InputError

FORMATS = {"jsonl": "jsonl", "ndjson": "jsonl", "csv": "csv", "parquet": "parquet"}
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
TAGS = ("ETag", "etag", "md5", "LastModified", "last_modified", "mtime", "created")  # as file systems of fsspec call them


def format_of(path: str) -> str | None:
    """Return the format of a data file by its ending (jsonl, csv or parquet, perhaps compressed); None if it has another."""
    name = path.lower()
    for ending in COMPRESSIONS:
        name = name.removesuffix(ending)
    return FORMATS.get(name.rpartition(".")[2])


def data_files(path: str, *, root: str) -> dict[str, str]:
    """Return the files of a path, folder, glob or URL: name of each file in rows and records -> URL or path to open.

    Raises:
        InputError: there is no such file.
    """
    full = path if "://" in path else str(Path(root, path).resolve() if not glob.has_magic(path) else Path(root, path))
    fs, inside = fsspec.url_to_fs(full)
    try:
        if glob.has_magic(inside):
            names = [str(name) for name in fs.glob(inside)]
        elif fs.isdir(inside):
            names = fs.find(inside)
        else:
            names = [inside] if fs.exists(inside) else []
    except OSError as error:
        raise InputError(f"source {path}: {full} cannot be reached: {error}.") from None
    is_single = names == [inside]
    names = sorted(name for name in names if is_single or format_of(name))
    if not names:
        raise InputError(
            f"source {path}: found no file at {full}, expected a file, folder or glob of JSONL, CSV or Parquet. "
            "A relative path starts at the folder of the contract. Correct prompts.sources or prompts.holdout."
        )
    urls = {name: name if "://" not in full else fs.unstrip_protocol(name) for name in names}
    if is_single:
        return {path: urls[names[0]]}
    return {f"{_folder(path)}/{name.removeprefix(_folder(inside)).lstrip('/')}": url for name, url in urls.items()}


def file_identities(paths: Collection[str], *, root: str) -> dict[str, str]:
    """Return name of each data file of `paths` -> SHA-256 of its content, or size and tags of a remote one.

    A path without a file has the identity `missing`: the job that reads it raises the error.
    """
    identities: dict[str, str] = {}
    for path in sorted(paths):
        try:
            identities |= {name: _identity(url) for name, url in data_files(path, root=root).items()}
        except InputError:
            identities[path] = "missing"
    return identities


def _identity(url: str) -> str:
    fs, inside = fsspec.url_to_fs(url)
    if "://" not in url:
        with fs.open(inside, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    info = fs.info(inside)
    return ":".join(str(value) for value in (info.get("size"), *map(info.get, TAGS)) if value)


def _folder(path: str) -> str:
    """Return the part of a path or glob before its first wildcard, as written."""
    while glob.has_magic(path):
        path = path.rpartition("/")[0]
    return path.rstrip("/") or "."
