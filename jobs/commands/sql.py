"""Every table of every finished artifact as a DuckDB view, read-only and streamed from the shards that the records list."""

import json
from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset
from pyarrow.fs import FSSpecHandler, PyFileSystem

from engine.errors import InputError, MissingArtifact
from engine.storage.artifact import Artifact, load_artifact
from jobs import workspace
from jobs.pipeline import line
from jobs.terminal.console import columns

READS = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
SHOWN_ROWS, SHOWN_CHARS = 100, 60


class Views:
    """A connection whose only contents are the tables of one run."""

    def __init__(self, run: str) -> None:
        self.run = str(workspace.run_folder(run))
        self.artifacts = finished(run)
        self.connection = duckdb.connect(":memory:")
        self.names = self._create()
        self.connection.execute("set enable_external_access = false")
        self.connection.execute("set lock_configuration = true")

    def query(self, query: str, given: list[Any] | None = None) -> pa.RecordBatchReader:
        """Return the answer, streamed.

        Raises:
            InputError: the query is not one reading statement, or names what is not there.
        """
        try:
            kinds = [statement.type for statement in self.connection.extract_statements(query)]
            if len(kinds) != 1 or kinds[0] not in READS:
                found = ", ".join(kind.name for kind in kinds) or "none"
                raise InputError(f"sql: found {found}, expected one SELECT: a run is never changed by a query.")
            return self.connection.sql(query, params=given or None).to_arrow_reader()
        except duckdb.CatalogException as error:
            raise InputError(f"sql: {error}\nThe tables of {self.run} are: {', '.join(self.names) or 'none yet'}.") from None
        except duckdb.Error as error:
            raise InputError(f"sql: {error}") from None

    def rows(self, query: str, given: list[Any] | None = None) -> list[dict[str, Any]]:
        """Return the answer, which must be small."""
        return self.query(query, given).read_all().to_pylist()

    def _create(self) -> list[str]:
        parts: dict[str, list[str]] = {}
        for job, artifact in self.artifacts.items():
            for table in (name for name in artifact.record.tables if artifact.table(name).shards):
                if job.startswith("students/"):
                    parts.setdefault(table, []).append(self._register_student(job, artifact, table))
                else:
                    self.connection.register(table, dataset(artifact, table))
        for name, selects in parts.items():
            self.connection.execute(f'create view "{name}" as {" union all by name ".join(selects)}')
        return sorted(row[0] for row in self.connection.execute("show tables").fetchall() if "/" not in row[0])

    def _register_student(self, job: str, artifact: Artifact, table: str) -> str:
        """The students' tables of one name are one view, with the column `student`."""
        data = dataset(artifact, table)
        self.connection.register(f"{job}/{table}", data)
        extra = "" if "student" in data.schema.names else f", '{job.partition('/')[2]}' as student"
        return f'select *{extra} from "{job}/{table}"'


def finished(run: str) -> dict[str, Artifact]:
    """Return the finished artifacts of a run, by job, in the line's order.

    Raises:
        MissingArtifact: no job has finished yet.
    """
    work = workspace.reopen(run)
    found = {job.name: artifact for job in line(work.contract) if (artifact := load_artifact(work.folder / job.name))}
    if not found:
        raise MissingArtifact(f"{work.folder}: no job has finished yet. `rayleigh status {run}` shows how far it is.")
    return found


def dataset(artifact: Artifact, table: str) -> pyarrow.dataset.Dataset:
    """Return the shards of a table as an Arrow dataset, from which only wanted columns and row groups are read."""
    folder = artifact.folder / table
    paths = [f"{folder.path}/{shard.path}" for shard in artifact.table(table).shards]
    store = None if folder.is_local else PyFileSystem(FSSpecHandler(folder.fs))
    return pyarrow.dataset.dataset(paths, format="parquet", filesystem=store)


def as_table(answer: pa.RecordBatchReader) -> Iterator[str]:
    """Yield the first rows as an aligned table, and say if there are more."""
    rows: list[list[object]] = []
    for batch in answer:
        rows += [[_short(value) for value in row.values()] for row in batch.slice(0, SHOWN_ROWS + 1 - len(rows)).to_pylist()]
        if len(rows) > SHOWN_ROWS:
            break
    yield columns(rows[:SHOWN_ROWS], head=answer.schema.names)
    if len(rows) > SHOWN_ROWS:
        yield f"(the first {SHOWN_ROWS} rows; --json prints all)"


def as_lines(answer: pa.RecordBatchReader) -> Iterator[str]:
    """Yield every row as one line of JSON."""
    for batch in answer:
        for row in batch.to_pylist():
            plain = {name: None if value != value else value for name, value in row.items()}  # JSON has no NaN
            yield json.dumps(plain, default=str, ensure_ascii=False)


def _short(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return value
    text = " ".join(str(value).split())
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."
