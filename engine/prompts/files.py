"""The files of a source, checked before any row is read: a fault of a whole source stops the job."""

from dataclasses import dataclass

import fsspec

from engine.contract.prompts import Holdout, LastAssistant, Source
from engine.errors import InputError
from engine.prompts import formats
from engine.storage.identity import FORMATS, data_files, format_of


@dataclass(frozen=True)
class SourceFile:
    """One file of a source, and which of its rows are taken; the input of one task."""

    url: str
    source: str  # as the contract writes it; for one of several files with its own name
    path: str  # the source's path as the contract writes it: part of every prompt's id
    number: int  # of the file among all files of the contract
    split: str  # train | holdout
    task_unit: str
    licence: str
    columns: dict[str, str]
    last_assistant: LastAssistant = "drop"  # what becomes of an answer that ends a conversation
    needs_reference: bool = False
    bytes: int = 0  # size of the file as stored
    first: int = 0  # rows of the source before this file; counted only if `take` is given
    total: int = 0  # rows of the source
    take: int | None = None

    def takes(self, row: int) -> bool:
        """Return whether row `row` of this file, from 0, is among the evenly spread rows that are taken."""
        if self.take is None or self.take >= self.total:
            return True
        position = self.first + row
        return (position + 1) * self.take // self.total > position * self.take // self.total


def source_files(sources: list[tuple[str, str, Source | Holdout]], *, root: str) -> list[SourceFile]:
    """Return every file of `sources`, which are (split, task unit, section).

    Raises:
        InputError: a source is missing, is empty, has an unknown ending, or lacks every column that is mapped.
    """
    result: list[SourceFile] = []
    for split, task_unit, section in sources:
        files = data_files(section.path, root=root)
        if not any([_has_rows(url, section) for url in files.values()]):
            raise InputError(
                f"source {section.path}: found no rows in {', '.join(files.values())}, expected at least one. "
                "Fill it, or take it out of the contract."
            )
        counts = {url: sum(1 for _ in formats.read(url)) if section.take else 0 for url in files.values()}
        first = 0
        for name, url in files.items():
            result.append(
                SourceFile(
                    url=url,
                    source=name,
                    path=section.path,
                    number=len(result),
                    split=split,
                    task_unit=task_unit,
                    licence=section.licence,
                    columns={**section.columns},
                    last_assistant=section.last_assistant,
                    needs_reference=isinstance(section, Holdout),
                    bytes=_size(url),
                    first=first,
                    total=sum(counts.values()),
                    take=section.take,
                )
            )
            first += counts[url]
    return result


def _size(url: str) -> int:
    fs, inside = fsspec.url_to_fs(url)
    return fs.size(inside) or 0


def _has_rows(url: str, section: Source | Holdout) -> bool:
    """Return whether the file has a row. Raises InputError if the whole file is unusable."""
    where = f"source {section.path}: {url}"
    if format_of(url) is None:
        raise InputError(f"{where}: found an unknown ending, expected one of {sorted(FORMATS)}. Rename or convert it.")
    try:
        columns = formats.columns(url)
        has_rows = next(formats.read(url), None) is not None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{where}: cannot be read: {error}. Correct the file, or its ending.") from None
    mapped = sorted(set(section.columns.values()))
    if columns and not set(mapped) & set(columns):
        raise InputError(f"{where}: found columns {columns}, expected {mapped}. Correct `columns` of this source in the contract.")
    return has_rows
