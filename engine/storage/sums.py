"""What the files of a folder behind a URL must be, so that every node can verify what it fetched: name, size, SHA-256."""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from engine.errors import StorageError
from engine.records.base import Json
from engine.records.record import FileEntry
from engine.storage.folder import Folder
from engine.storage.identity import TAGS

NAMED = (*TAGS, "blob_id", "xet_hash")
"""What stores call the content of a file, or when it was written."""

SUMS = "SHA256SUMS"
"""File of hashes in the folder, as `sha256sum` writes it. Files that it does not name are not fetched."""
WRITE = f"find . -type f ! -name {SUMS} -exec sha256sum {{}} + > {SUMS}"
"""Writes it, in the model's folder."""
LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


def file_entries(folder: Folder, wanted: Callable[[str], bool], memo: str) -> tuple[FileEntry, ...]:
    """Return name, size and hash of those files of `folder` that are `wanted` by their names; () if there is no such folder.

    Hidden files do not count. The hashes are those of SHA256SUMS in the folder. Without it each file is read once; what was found
    is kept in the folder `memo` of this node for as long as the files have the same sizes and tags. Without tags it is read anew.

    Raises:
        StorageError: a file cannot be read, or SHA256SUMS names one that is not there or is not written as `sha256sum` does.
    """
    listed = _listed(folder)
    if SUMS in listed:
        given = _parsed(folder)
        if missing := sorted(given.keys() - listed.keys()):
            raise StorageError(
                f"{folder}: {SUMS} names {missing[0]}, which is not there; found {', '.join(sorted(listed))}. Upload it, or write "
                f"{SUMS} anew: `{WRITE}`."
            )
        return tuple(FileEntry(name, _size(folder, name, listed[name]), given[name]) for name in sorted(given) if wanted(name))
    chosen = {name: info for name, info in sorted(listed.items()) if wanted(name)}
    if not all(any(info.get(tag) for tag in NAMED) for info in chosen.values()):
        return tuple(folder.measure(name) for name in chosen)
    tags = [[name, info.get("size"), *(str(info.get(tag)) for tag in NAMED)] for name, info in chosen.items()]
    key = hashlib.sha256(json.dumps([folder.url, tags]).encode()).hexdigest()[:32]
    file = Path(memo).expanduser() / f"{key}.sums"
    try:
        return tuple(FileEntry(**entry) for entry in json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        entries = tuple(folder.measure(name) for name in chosen)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{uuid.uuid4().hex[:8]}")
        partial.write_text(json.dumps([asdict(entry) for entry in entries]))
        os.replace(partial, file)
    except OSError as error:
        raise StorageError(
            f"{file.parent}: cannot be written: {error}. Make room, or name another folder in weights_cache.folder of the profile."
        ) from None
    return entries


def _listed(folder: Folder) -> dict[str, Json]:
    """Return name -> what the store says of it."""

    def find() -> dict[str, Json]:
        folder.fs.invalidate_cache()
        return folder.fs.find(folder.path, detail=True)

    try:
        found = folder.with_retries("", find)
    except FileNotFoundError:
        return {}
    except StorageError:
        raise
    except Exception as error:  # clients of stores raise classes of their own
        raise StorageError(f"{folder}: cannot be listed: {error}. Check the address, the network and the keys.") from None
    named = {path.removeprefix(folder.path).lstrip("/"): info for path, info in found.items()}
    return {name: info for name, info in named.items() if name and not _is_hidden(name)}


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _size(folder: Folder, name: str, info: Json) -> int:
    """Return the bytes of a file; `info` is what its store says of it in a list, which may lack them."""
    size = info.get("size")
    if size is None:
        size = folder.with_retries(name, lambda: folder.fs.info(f"{folder.path}/{name}")).get("size")
    if size is None:
        raise StorageError(f"{folder}/{name}: the store does not tell its size. Put the model behind a store that does.")
    return int(size)


def _parsed(folder: Folder) -> dict[str, str]:
    """Return name -> hash of each file that SHA256SUMS names."""
    sums: dict[str, str] = {}
    for number, line in enumerate(folder.read(SUMS).decode("utf-8", "replace").splitlines(), start=1):
        if line.strip():
            found = LINE.fullmatch(line)
            if not found:
                raise StorageError(
                    f"{folder}/{SUMS}, line {number}: found {line!r:.80}, expected a SHA-256, two spaces and a name. Write it with "
                    f"`{WRITE}` in the model's folder, and upload it with the model."
                )
            sums[found[2].removeprefix("./")] = found[1].lower()
    sums.pop(SUMS, None)  # a shell may have listed it while it was being written
    return {name: digest for name, digest in sums.items() if not _is_hidden(name)}
