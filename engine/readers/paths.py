"""The data files that a path, folder, glob or URL names. Only what the caller wrote counts, not where a link leads."""

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import fsspec
from fsspec.implementations.local import LocalFileSystem

from engine.errors import InputError
from engine.readers.below import below
from engine.retry import cannot_open, with_retries

FORMATS = {"jsonl": "jsonl", "ndjson": "jsonl", "json": "json", "csv": "csv", "tsv": "tsv", "parquet": "parquet"}
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".lz4": "lz4"}
ACCEPTED = (
    f"{', '.join(f'.{ending}' for ending in FORMATS)}; all but .parquet may be compressed ({', '.join(COMPRESSIONS)}), and a .json "
    "file of a folder is data only if its name or a pattern of .json is given"
)
HIDDEN = (".", "_")  # first characters of names that are no data, as for Spark, Arrow and pandas
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
SHOWN = 5  # names in a message


class DataFile(NamedTuple):
    """One file that a path names."""

    name: str  # as the path is written, and behind it the place in the folder: the file's name in rows and records
    relative: str  # place in the folder or behind the first wildcard; of a single file its own name
    url: str  # what fsspec opens
    partitions: dict[str, str | None]  # key -> value of folders such as `language=de`, of what the caller wrote and below it


def format_of(path: str) -> str | None:
    """Return the format that the ending of a data file says, perhaps compressed: one of FORMATS' values; None if it has another."""
    name = _without_query(path).lower()
    return FORMATS.get(name.removesuffix(_ending(name)).rpartition(".")[2])


def compression_of(path: str) -> str | None:
    """Return the compression that the ending says: one of COMPRESSIONS' values; None if it says none."""
    return COMPRESSIONS.get(_ending(_without_query(path).lower()))


def data_files(path: str, *, root: str = ".") -> list[DataFile]:
    """Return the files of a path, folder, glob or URL, sorted by name. A relative path starts at `root`, a folder or a URL.

    A path that exists is that path; only what does not exist is a pattern (`*`, `?`, `[...]`, and `**` for any folders). Of a
    folder, or of what a wildcard matches, names that begin with `.` or `_` are no data, nor files of other endings.

    Raises:
        InputError: there is no such file, or the storage refuses it.
        StoreUnreachable: the store behind the URL cannot be reached.
    """
    full = below(root, path) if "://" in root else path
    is_url = "://" in full
    written = path if is_url else os.path.expanduser(path)
    full = full if is_url else os.path.join(os.path.abspath(root), written)
    try:
        fs, inside = fsspec.url_to_fs(full)
        inside = inside if is_url else full.rstrip("/") or "/"  # fsspec does not keep a link's own name everywhere

        def look() -> tuple[bool, str, list[str], str]:
            is_single = fs.exists(inside) and not fs.isdir(inside)
            stem, names = _listed(fs, inside, inside if is_url or os.path.isabs(written) else written)
            # here: over HTTP, what cannot be reached does not exist for fsspec, and only `isdir` raises an error
            return is_single, stem, names, "" if names else _nothing(path, full, fs, inside)

        is_single, stem, names, nothing = with_retries(full, look) if is_url else look()
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"source {path}: {full} cannot be reached: {cannot_open(error)}.") from None
    if not names:
        raise InputError(nothing)
    outside = _outside(fs, root, written, inside)
    files = []
    for name in names:
        relative = name.rpartition("/")[2] if is_single else name.removeprefix(stem).lstrip("/")
        shown = path if is_single else f"{_folder(path, stem, inside)}/{relative}"
        url = name if not is_url else full if is_single else fs.unstrip_protocol(name)
        files.append(DataFile(shown, relative, url, partitions(name[outside:])))
    return files


def source_of(name: str, paths: Iterable[str]) -> str:
    """Return the one of `paths`, as `data_files` takes them, one of whose files has this `name`; `name` itself if none has."""
    known = list(paths)
    whole = (path for path in known if name == path or name.startswith(f"{path.rstrip('/')}/"))
    patterns = ((path, path.replace("**/", "*").rstrip("/")) for path in known if glob.has_magic(path))
    names = (name, name.removeprefix("./"))  # a pattern in the folder itself may be written without it
    ends = [(path, end) for path, pattern in patterns for end in (pattern, f"{pattern}/*")]
    return next(whole, None) or next((path for path, end in ends if any(fnmatchcase(one, end) for one in names)), name)


def _outside(fs: Any, root: str, written: str, inside: str) -> int:
    """Return how many characters of the paths of files are `root`, which the caller did not write."""
    if "://" in written or os.path.isabs(written):
        return 0
    start = str(fs._strip_protocol(root)) if "://" in root else os.path.abspath(root)
    return len(start.rstrip("/")) + 1 if inside.startswith(start.rstrip("/")) else 0


def partitions(path: str) -> dict[str, str | None]:
    """Return key -> value of the folders `key=value` in `path`, as Hive, Spark and `datasets` write them."""
    pairs = (folder.split("=", 1) for folder in path.split("/")[:-1] if re.match(r"[^=.]+=", folder))
    return {unquote(key): None if value == NO_VALUE else unquote(value) for key, value in pairs}


def _listed(fs: Any, inside: str, written: str) -> tuple[str, list[str]]:
    """Return the folder that names start behind, and the sorted paths of all files."""
    if fs.exists(inside):
        return inside, sorted(_below(fs, inside)) if fs.isdir(inside) else [inside]
    if not glob.has_magic(written):
        return inside, []
    base = inside.removesuffix(written.rstrip("/")).rstrip("/")
    parts = written.strip("/").split("/")
    is_json = ".json" in parts[-1].lower()
    start = f"{base}/" if base or inside.startswith("/") else ""
    places = [start + "/".join(parts[: number + 1]) for number in range(len(parts))]
    patterns = [number for number, part in enumerate(parts) if glob.has_magic(part) and not fs.exists(places[number])]
    if not patterns:
        return inside, []
    number = patterns[0]
    stem = (start + "/".join(parts[:number])).rstrip("/") or "/"
    found: set[str] = set()
    for name in _matched(fs, stem, parts[number:]):
        if fs.isdir(name):
            found.update(_below(fs, name))
        elif (form := format_of(name)) and (is_json or form != "json"):
            found.add(name)
    return stem, sorted(found)


def _matched(fs: Any, folder: str, parts: Sequence[str]) -> Iterator[str]:
    """Yield the paths in `folder` that match `parts` of a pattern."""
    if not parts:
        yield folder
        return
    first, *rest = parts
    if first == "**":
        yield from _matched(fs, folder, rest or ["*"])
        yield from (name for sub in _names(fs, folder, "*") if fs.isdir(sub) for name in _matched(fs, sub, parts))
    elif glob.has_magic(first) and not fs.exists(f"{folder}/{first}"):
        for name in _names(fs, folder, first):
            if not rest or fs.isdir(name):
                yield from _matched(fs, name, rest)
    elif fs.exists(f"{folder}/{first}"):
        yield from _matched(fs, f"{folder}/{first}", rest)


def _names(fs: Any, folder: str, pattern: str) -> list[str]:
    """Return the paths in `folder` whose names match; a hidden name only if `pattern` begins like it."""
    names = _names_in(fs, folder) if fs.isdir(folder) else []
    return [f"{folder.rstrip('/')}/{name}" for name in names if _is_match(name, pattern)]


def _names_in(fs: Any, folder: str) -> list[str]:
    if isinstance(fs, LocalFileSystem):
        return sorted(os.listdir(folder))
    paths = [str(name).rstrip("/") for name in fs.ls(folder, detail=False)]
    return sorted(path.rpartition("/")[2] for path in paths if path.strip("/") != folder.strip("/"))


def _is_match(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) and (not name.startswith(HIDDEN) or pattern[0] == name[0])


def _below(fs: Any, folder: str) -> Iterator[str]:
    """Yield the data files below `folder`. Linked folders of a local disk are followed, each once."""
    if not isinstance(fs, LocalFileSystem):
        for name in map(str, fs.find(folder)):
            is_hidden = any(part.startswith(HIDDEN) for part in name.removeprefix(folder).strip("/").split("/"))
            if not is_hidden and format_of(name) not in (None, "json"):
                yield name
        return
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        is_new = (real := os.path.realpath(place)) not in seen
        seen.add(real)
        folders[:] = sorted(name for name in folders if is_new and not name.startswith(HIDDEN))
        if is_new:
            yield from (
                f"{place}/{name}" for name in names if not name.startswith(HIDDEN) and format_of(name) not in (None, "json")
            )


def _nothing(path: str, full: str, fs: Any, inside: str) -> str:
    """Return the message for a path that names no data file."""
    found = "no file"
    if fs.isdir(inside):
        names = _names_in(fs, inside)
        found = (
            f"no data file, but {', '.join(names[:SHOWN])}{' ...' if len(names) > SHOWN else ''}," if names else "an empty folder"
        )
    return (
        f"source {path}: found {found} at {full}, expected a file, folder or glob of files that end in one of {ACCEPTED}. "
        "Names that begin with . or _ are no data. A relative path starts at the folder of the contract, or of the "
        "command. Correct the path."
    )


def _folder(path: str, stem: str, inside: str) -> str:
    """Return the part of the written `path` before its first pattern."""
    depth = len(Path(inside).parts) - len(Path(stem).parts)
    parts = path.rstrip("/").split("/")
    return "/".join(parts[: len(parts) - depth]).rstrip("/") or "."


def _ending(name: str) -> str:
    return next((ending for ending in COMPRESSIONS if name.endswith(ending)), "")


def _without_query(path: str) -> str:
    return re.split("[?#]", path, maxsplit=1)[0] if path.startswith(("http://", "https://")) else path
