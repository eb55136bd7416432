"""How `rayleigh sql` writes a result: an aligned table, JSON lines, CSV, Markdown, a Parquet file, a DuckDB database."""

import csv
import io
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic_core import to_json

from engine.errors import InputError, StorageError
from engine.rows import Row
from jobs.commands.review_files import safe
from jobs.commands.sql import COLUMNS, Views
from jobs.commands.sql_questions import Question
from jobs.terminal.console import columns

SHOWN_ROWS, SHOWN_CHARS = 100, 60


def as_table(result: pa.RecordBatchReader) -> Iterator[str]:
    """Yield the first rows as an aligned table, and a line that says so if there are more."""
    rows: list[list[object]] = []
    for batch in result:
        rows += [[_short(value) for value in row.values()] for row in _rows(batch.slice(0, SHOWN_ROWS + 1 - len(rows)))]
        if len(rows) > SHOWN_ROWS:
            break
    yield columns(rows[:SHOWN_ROWS], head=result.schema.names)
    if len(rows) > SHOWN_ROWS:
        yield f"(the first {SHOWN_ROWS} rows; --json prints all)"


def as_lines(result: pa.RecordBatchReader) -> Iterator[str]:
    """Yield every row as one line of JSON; NaN and infinity, which JSON does not have, become null, in lists and structs, too."""
    for batch in result:
        for row in _rows(batch):
            yield to_json(row, inf_nan_mode="null", fallback=str).decode()


def as_csv(result: pa.RecordBatchReader) -> Iterator[str]:
    """Yield every row as a line of CSV, after the names of the columns; lists and structs are JSON, null is an empty cell.

    A text that a spreadsheet would read as a formula gets an apostrophe in front, as in `rayleigh review export`.
    """
    yield _csv_line(result.schema.names)
    for batch in result:
        for row in _rows(batch):
            yield _csv_line([_cell(value) for value in row.values()])


def as_markdown(result: pa.RecordBatchReader) -> Iterator[str]:
    """Yield every row as a line of a Markdown table."""
    yield _markdown_line(result.schema.names)
    yield f"|{'---|' * len(result.schema.names)}"
    for batch in result:
        for row in _rows(batch):
            yield _markdown_line(["" if value is None else _shown(value) for value in row.values()])


def _rows(batch: pa.RecordBatch) -> list[Row]:
    """Return the rows; times with nanoseconds are no Python values without pandas, and become texts."""
    for place, field in enumerate(batch.schema):
        if pa.types.is_temporal(field.type) and getattr(field.type, "unit", "") == "ns":
            batch = batch.set_column(place, field.name, batch.column(place).cast(pa.string()))
    return batch.to_pylist()


WRITERS = {"json": as_lines, "csv": as_csv, "markdown": as_markdown, "table": as_table}


def write_parquet(result: pa.RecordBatchReader, path: str) -> int:
    """Write every row to the new Parquet file `path`, whole or not at all; return how many.

    Raises:
        InputError: `path` exists.
        StorageError: it cannot be written.
    """
    target, part = _new_file(path)
    rows = 0
    try:
        with pq.ParquetWriter(part, result.schema, compression="zstd") as writer:
            for batch in result:
                writer.write_batch(batch)
                rows += batch.num_rows
        _finish(part, target)
    except (OSError, pa.ArrowException, duckdb.Error) as error:
        raise StorageError(f"{path}: cannot be written: {error}. Make room, or choose another file.") from None
    finally:
        part.unlink(missing_ok=True)
    return rows


def write_database(views: Views, path: str, questions: Mapping[str, Question]) -> list[str]:
    """Write all tables to the new DuckDB file `path`, with the texts of their columns, and each question as a view.

    The file is whole when it has its name, and its owner may only read it: a tool opens it read-only. Tables are streamed, one
    after the other. Return the names of tables and views.

    Raises:
        InputError: `path` exists.
        StorageError: it cannot be written.
    """
    target, part = _new_file(path)
    try:
        with duckdb.connect(str(part)) as database:
            for name in [*views.names, COLUMNS]:
                database.register("incoming", views.query(f'select * from "{name}"'))
                database.execute(f'create table "{name}" as from incoming')
                database.unregister("incoming")
            for row in views.rows(f"select * from {COLUMNS} where doc <> ''"):
                place = f'"{row["table"]}"."{row["column"]}"'
                database.execute(f"comment on column {place} is '{row['doc'].replace(chr(39), chr(39) * 2)}'")
            asked = {name: question for name, question in questions.items() if question.can_ask(views.names)}
            for name, question in asked.items():
                database.execute(f'create view "{name}" as {question.sql}')
                database.execute(f"comment on view \"{name}\" is '{question.text.replace(chr(39), chr(39) * 2)}'")
        part.chmod(stat.S_IRUSR | stat.S_IRGRP)
        _finish(part, target)
    except (OSError, duckdb.IOException) as error:
        raise StorageError(f"{path}: cannot be written: {error}. Make room, or choose another file.") from None
    finally:
        part.unlink(missing_ok=True)
        Path(f"{part}.wal").unlink(missing_ok=True)
    return [*views.names, COLUMNS, *asked]


def _new_file(path: str) -> tuple[Path, Path]:
    """Return the path of a new file, and that of the file in which it is built."""
    target = Path(path).expanduser().absolute()
    if target.exists():
        raise InputError(f"{path}: exists already, expected the name of a new file. Nothing is overwritten.")
    if not target.parent.is_dir():
        raise InputError(f"{path}: there is no folder {target.parent}. Make it first.")
    return target, target.with_name(f".{target.name}.{uuid4().hex[:8]}.part")


def _finish(part: Path, target: Path) -> None:
    try:
        os.link(part, target)  # fails if another process has made it meanwhile
    except FileExistsError:
        raise InputError(f"{target}: another process wrote it meanwhile. Nothing is overwritten.") from None


def _csv_line(cells: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(cells)
    return buffer.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    return safe(_shown(value)) if isinstance(value, str | list | dict) else _shown(value)


def _shown(value: object) -> str:
    if isinstance(value, list | dict):
        return to_json(value, inf_nan_mode="null", fallback=str).decode()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _markdown_line(cells: list[str]) -> str:
    plain = (" ".join(cell.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;") for cell in cells)
    return f"| {' | '.join(plain)} |"


def _short(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return value
    text = " ".join(str(value).split())
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."
