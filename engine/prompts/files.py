"""Which files a source of the contract means, checked before any row is read: a fault of the whole source stops the job."""

import glob
import hashlib
from dataclasses import dataclass
from pathlib import Path

import fsspec

from engine.contract.prompts import Holdout, Source
from engine.errors import InputError
from engine.prompts import formats


@dataclass(frozen=True)
class Slice:
    """One file of a source and which of its rows are wanted; what one task reads."""

    url: str
    source: str  # as the contract writes it; for one of several files with its own name
    path: str  # the source's path as the contract writes it: part of every prompt's id
    number: int  # of the file among all files of the contract
    side: str  # train | holdout
    task_unit: str
    licence: str
    columns: dict[str, str]
    bytes: int = 0  # of the file, as it lies there
    first: int = 0  # rows of the source before this file; counted only if `take` is given
    total: int = 0  # rows of the source
    take: int | None = None

    def wants(self, row: int) -> bool:
        """Return whether row `row` of this file, from 0, is among the evenly spread rows that are taken."""
        if self.take is None or self.take >= self.total:
            return True
        place = self.first + row
        return (place + 1) * self.take // self.total > place * self.take // self.total


def slices(sources: list[tuple[str, str, Source | Holdout]], *, root: str) -> list[Slice]:
    """Return every file of `sources`, given as (side, task unit, section).

    Raises:
        InputError: a source is missing, empty, of an unknown ending, or lacks every column that is mapped.
    """
    found: list[Slice] = []
    for side, task_unit, section in sources:
        files = locate(section.path, root=root)
        if not any([_probe(url, section) for url in files.values()]):
            raise InputError(
                f"source {section.path}: found no rows in {', '.join(files.values())}, expected at least one. "
                "Fill it, or take it out of the contract."
            )
        counts = {url: sum(1 for _ in formats.read(url)) if section.take else 0 for url in files.values()}
        first = 0
        for name, url in files.items():
            found.append(
                Slice(
                    url=url,
                    source=name,
                    path=section.path,
                    number=len(found),
                    side=side,
                    task_unit=task_unit,
                    licence=section.licence,
                    columns={ours: theirs for ours, theirs in section.columns.items()},
                    bytes=_size(url),
                    first=first,
                    total=sum(counts.values()),
                    take=section.take,
                )
            )
            first += counts[url]
    return found


def locate(path: str, *, root: str) -> dict[str, str]:
    """Return the files that `path` means: the name by which rows call each -> where it is opened.

    Raises:
        InputError: there is none.
    """
    whole = path if "://" in path else str(Path(root, path).resolve() if not glob.has_magic(path) else Path(root, path))
    fs, inside = fsspec.url_to_fs(whole)
    try:
        if glob.has_magic(inside):
            found = [str(name) for name in fs.glob(inside)]
        elif fs.isdir(inside):
            found = fs.find(inside)
        else:
            found = [inside] if fs.exists(inside) else []
    except OSError as error:
        raise InputError(f"source {path}: {whole} cannot be reached: {error}.") from None
    is_single = found == [inside]
    found = sorted(name for name in found if is_single or formats.format_of(name))
    if not found:
        raise InputError(
            f"source {path}: found no file at {whole}, expected a file, folder or glob of JSONL, CSV or Parquet. "
            "A relative path starts at the folder of the contract. Mend prompts.sources or prompts.holdout."
        )
    opened = {name: name if "://" not in whole else fs.unstrip_protocol(name) for name in found}
    if is_single:
        return {path: opened[found[0]]}
    return {f"{_stem(path)}/{name.removeprefix(_stem(inside)).lstrip('/')}": url for name, url in opened.items()}


def identity(path: str, *, root: str) -> dict[str, str]:
    """Return what changes when the content of the source changes: name of each file -> hash, or size and tag of a remote one.

    A source that is missing has the identity `missing`: the job itself says so when it runs.
    """
    try:
        files = locate(path, root=root)
    except InputError:
        return {path: "missing"}
    return {name: _identity(url) for name, url in files.items()}


def _size(url: str) -> int:
    fs, inside = fsspec.url_to_fs(url)
    return fs.size(inside) or 0


def _identity(url: str) -> str:
    fs, inside = fsspec.url_to_fs(url)
    if "://" not in url:
        digest = hashlib.sha256()
        with fs.open(inside, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        return digest.hexdigest()
    info = fs.info(inside)
    tags = [info.get(key) for key in ("ETag", "etag", "md5", "LastModified", "last_modified", "mtime", "created")]
    return ":".join(str(value) for value in (info.get("size"), *tags) if value)


def _probe(url: str, section: Source | Holdout) -> bool:
    """Return whether a file has a row, from its beginning; refuse what no row of it could mend."""
    where = f"source {section.path}: {url}"
    if formats.format_of(url) is None:
        raise InputError(f"{where}: found an unknown ending, expected one of {sorted(formats.ENDINGS)}. Rename or convert it.")
    try:
        present = formats.columns(url)
        has_rows = next(formats.read(url), None) is not None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{where}: cannot be read: {error}. Mend the file, or its ending.") from None
    wanted = sorted(set(section.columns.values()))
    if present and not set(wanted) & set(present):
        raise InputError(f"{where}: found columns {present}, expected {wanted}. Mend `columns` of this source in the contract.")
    return has_rows


def _stem(path: str) -> str:
    """The folder part of a path or glob, as written."""
    while glob.has_magic(path):
        path = path.rpartition("/")[0]
    return path.rstrip("/") or "."
