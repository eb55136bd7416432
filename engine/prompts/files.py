"""The files of a source, checked before any row is read: a fault of a whole source stops the job."""

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from pydantic import JsonValue

from engine.contract.prompts import Damaged, Holdout, LastAssistant, Source
from engine.errors import InputError
from engine.readers import formats
from engine.readers.columns import NOWHERE, did_you_mean, names_in, value_of
from engine.readers.paths import ACCEPTED, DataFile, data_files, format_of
from engine.readers.raw import RawRow, every
from engine.readers.streams import size_of

OPENED = 100  # files that are opened for the columns of a message
HEAD = 1_000  # rows of a source that are read here; a column that none of them has may be in a later one


@dataclass(frozen=True)
class SourceFile:
    """One file of a source, and which of its rows are taken; the input of one task."""

    url: str
    source: str  # as the contract writes it; for one of several files with its own name
    path: str  # the source's path as the contract writes it: part of every prompt's id
    number: int  # of the file among all files that are read
    split: str  # train | holdout
    task_unit: str
    licence: str
    columns: dict[str, str]
    last_assistant: LastAssistant = "drop"  # what becomes of an answer that ends a conversation
    needs_reference: bool = False
    may_lack_reference: bool = False  # whether a row whose mapped reference is none is a prompt all the same
    bytes: int = 0  # size of the file as stored
    first: int = 0  # rows of the source before this file; counted only if `take` is given
    total: int = 0  # rows of the source; 0 until they are counted
    take: int | None = None
    partitions: tuple[tuple[str, str | None], ...] = ()  # columns that the names of its folders give
    damaged: Damaged = "refuse"
    schema: JsonValue = None  # JSON schema of the task unit's answers; null = none
    section: int = 0  # number of the source among all that are read
    lines: frozenset[int] | None = None  # that are taken, from 1; None = all

    def takes(self, row: int) -> bool:
        """Return whether row `row` of this file, from 0, is among the evenly spread rows that are taken."""
        if self.take is None or self.take >= self.total:
            return True
        position = self.first + row
        return (position + 1) * self.take // self.total > position * self.take // self.total

    def rows(self) -> Iterator[RawRow]:
        """Yield the rows that are taken, with the columns that folders give. Raises InputError as `formats.read`."""
        for raw in formats.read(self.url, wanted=self.takes if self.take else every, damaged=self.damaged):
            if self.lines is not None and raw.line not in self.lines:
                continue
            yield raw._replace(fields={**dict(self.partitions), **raw.fields}) if self.partitions and not raw.reason else raw

    def count(self) -> int:
        """Return the number of rows, whether taken or not. Raises InputError as `formats.read`."""
        return formats.count(self.url, damaged=self.damaged)


def source_files(sources: list[tuple[str, str, Source | Holdout]], *, root: str) -> list[SourceFile]:
    """Return every file of `sources`, which are (split, task unit, section). Only the heads of files are read.

    Raises:
        InputError: a source is missing, is empty, has an unknown ending, cannot be opened, or lacks a column that is mapped.
    """
    result: list[SourceFile] = []
    for place, (split, task_unit, section) in enumerate(sources):
        files = data_files(section.path, root=root)
        _check(files, section)
        for file, lines in _with_lines(files, section):
            result.append(
                SourceFile(
                    url=file.url,
                    source=file.name,
                    path=section.path,
                    number=len(result),
                    split=split,
                    task_unit=task_unit,
                    licence=section.licence,
                    columns={**section.columns},
                    last_assistant=section.last_assistant,
                    needs_reference=isinstance(section, Holdout),
                    bytes=size_of(file.url),
                    take=section.take,
                    partitions=tuple(file.partitions.items()),
                    damaged=section.damaged,
                    section=place,
                    lines=lines,
                )
            )
    return result


def _with_lines(files: list[DataFile], section: Source | Holdout) -> Iterator[tuple[DataFile, frozenset[int] | None]]:
    """Yield the files of a source of which rows are taken, with their lines; None = all.

    Raises:
        InputError: `lines` name a file that the source does not have.
    """
    lines = section.lines if isinstance(section, Source) else None
    if lines is None:
        yield from ((file, None) for file in files)
        return
    if unknown := sorted(lines.keys() - {file.name for file in files}):
        raise InputError(
            f"source {section.path}: lines: found the file {unknown[0]}, expected some of {[file.name for file in files]}. Correct "
            "`lines` of this source in the contract, or bring the file back."
        )
    yield from ((file, frozenset(lines[file.name])) for file in files if file.name in lines)


def with_schemas(files: list[SourceFile], schemas: Mapping[str, JsonValue]) -> list[SourceFile]:
    """Return `files` with the JSON schema of their task unit, which says where a reference may hold null."""
    return [replace(file, schema=schemas.get(file.task_unit)) for file in files]


def with_counts(files: list[SourceFile], counts: dict[int, int]) -> list[SourceFile]:
    """Return `files`, whose `take` is spread over all rows of their source; `counts` is number of the file -> its rows."""
    result: list[SourceFile] = []
    for _, group in itertools.groupby(files, lambda file: file.section):
        of_source, first = list(group), 0
        total = sum(counts.get(file.number, 0) for file in of_source)
        for file in of_source:
            result.append(replace(file, first=first, total=total))
            first += counts.get(file.number, 0)
    return result


def require_columns(files: list[SourceFile], readable: Mapping[int, int], missing: Mapping[tuple[int, str], int]) -> None:
    """Check the rows that were read: `readable` is number of the file -> rows that could be read, `missing` is (number, mapped
    column) -> those without it.

    Raises:
        InputError: no row of a source has a column that is mapped.
    """
    for _, group in itertools.groupby(files, lambda file: file.section):
        of_source = list(group)
        rows = sum(readable.get(file.number, 0) for file in of_source)
        for name in of_source[0].columns.values():
            if rows and sum(missing.get((file.number, name), 0) for file in of_source) == rows:
                raise missing_column(of_source[0].path, name, column_names(of_source))


def missing_column(where: str, name: str, names: Collection[str]) -> InputError:
    """Return the error for a mapped column that no row of a source has; `names` are those that it has."""
    return InputError(
        f"source {where}: no row has the column {name!r}, which `columns` maps; found {sorted(names)}.{did_you_mean(name, names)} "
        "Correct `columns` of this source in the contract, or leave the column out of them."
    )


def column_names(files: list[SourceFile]) -> set[str]:
    """Return the names of the columns in the first rows of `files`, of the first OPENED of them."""
    some = files[:OPENED]
    rows = itertools.chain.from_iterable(itertools.islice(file.rows(), HEAD // len(some)) for file in some)
    return {name for raw in rows for name in names_in(raw.fields)}


def _require_once(where: str, columns: Collection[str], mapped: Collection[str]) -> None:
    """Raise InputError if a file has several columns of one name that is mapped."""
    counts = Counter(columns)
    if twice := [name for name in mapped if counts[name if name in counts else name.partition(".")[0]] > 1]:
        raise InputError(
            f"{where}: found the column {twice[0]!r} more than once in {[*columns]}, expected it once. Rename one of them in the "
            "file."
        )


def _check(files: list[DataFile], section: Source | Holdout) -> None:
    """Raise InputError if a file is unusable as a whole, if there is no row, or if a column is certainly in no row."""
    mapped = sorted(set(section.columns.values()))
    nowhere, names, left, has_rows, is_whole = set(mapped), set[str](), HEAD, False, True
    for file in files:
        where = f"source {section.path}: {file.url}"
        if format_of(file.url) is None:
            raise InputError(f"{where}: found an unknown ending, expected one of {ACCEPTED}. Rename or convert it.")
        try:
            columns = formats.columns(file.url)
            rows = formats.read(file.url, damaged=section.damaged)
            head = list(itertools.islice(rows, 1 if columns else max(left, 1)))
            is_whole = is_whole and (bool(columns) or next(rows, None) is None)
        except InputError as error:
            raise InputError(f"source {section.path}: {error}") from None
        _require_once(where, columns or (), mapped)
        left -= len(head)
        has_rows = has_rows or bool(head)
        fields = [{**file.partitions, **dict.fromkeys(columns or ()), **raw.fields} for raw in head if columns or not raw.reason]
        if columns and not head:
            fields = [{**file.partitions, **dict.fromkeys(columns)}]
        found = {name for name in mapped for one in fields if value_of(one, name) is not NOWHERE}
        names |= {name for one in fields for name in names_in(one)}
        if columns and not found and not any("." in name for name in mapped):
            raise InputError(
                f"{where}: found columns {sorted(names)}, expected {mapped}.{did_you_mean(mapped[0], names)} Correct `columns` of "
                "this source in the contract."
            )
        nowhere -= found
        # A nested column may be null in the first row of Parquet: its rows are looked at when all are read.
        is_whole = is_whole and not (columns and any("." in name for name in nowhere))
    if not has_rows:
        raise InputError(
            f"source {section.path}: found no rows in {', '.join(file.url for file in files)}, expected at least one. "
            "Fill it, or take it out of the contract."
        )
    if is_whole and nowhere and names:
        raise missing_column(section.path, min(nowhere), names)
