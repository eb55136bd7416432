"""Every table of every finished artifact as a DuckDB view, read-only and streamed from the shards that the records list."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import pyarrow.dataset
from pyarrow.fs import FSSpecHandler, PyFileSystem
from pydantic_core import to_json

from engine.errors import InputError, MissingArtifact
from engine.rows import TABLES, VERSION, Row
from engine.serving.record_files import SHADOW_FOLDER, is_records, shards
from engine.serving.schemas import REQUEST, SHADOW
from engine.storage.artifact import Artifact, load_artifact
from engine.storage.shards import iterate, parquet_bytes
from jobs import workspace
from jobs.pipeline import pipeline
from jobs.terminal.console import columns

READS = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
SHOWN_ROWS, SHOWN_CHARS = 100, 60
REQUESTS, SHADOWS = "requests", "shadows"  # tables of the records of a server


class Views:
    """A connection that contains the tables of one run and nothing else."""

    def __init__(self, run: str) -> None:
        """Open the run in the folder `run`, or the records of a server in it, with the tables `requests` and `shadows`.

        Raises:
            MissingArtifact: no job has finished yet.
        """
        folder = workspace.run_folder(run)
        self.run = str(folder)
        self.records = shards(Path(folder.path)) if folder.is_local and is_records(Path(folder.path)) else None
        self.artifacts = finished(run) if self.records is None else {}
        self.connection = duckdb.connect(":memory:")
        self._migrated = TemporaryDirectory(prefix="rayleigh-sql-")
        self.names = self._create()
        self.connection.execute("set enable_external_access = false")
        self.connection.execute("set lock_configuration = true")

    def query(self, query: str, parameters: Sequence[object] = ()) -> pa.RecordBatchReader:
        """Return the result of a SELECT, streamed.

        Raises:
            InputError: the query is not one reading statement, or names a table or column that does not exist.
        """
        try:
            kinds = [statement.type for statement in self.connection.extract_statements(query)]
            if len(kinds) != 1 or kinds[0] not in READS:
                names = ", ".join(kind.name for kind in kinds) or "none"
                raise InputError(f"sql: found {names}, expected one SELECT: a run is never changed by a query.")
            return self.connection.sql(query, params=list(parameters) or None).to_arrow_reader()
        except duckdb.CatalogException as error:
            raise InputError(f"sql: {error}\nThe tables of {self.run} are: {', '.join(self.names) or 'none yet'}.") from None
        except duckdb.Error as error:
            raise InputError(f"sql: {error}") from None

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return all rows of a result that fits in memory."""
        return self.query(query, parameters).read_all().to_pylist()

    def _create(self) -> list[str]:
        """Register every table, and return their names. The students' tables of one name become one view."""
        selects: dict[str, list[str]] = {}
        if self.records is not None:
            shadow = shards(Path(workspace.run_folder(self.run).path) / SHADOW_FOLDER)
            for name, paths, schema in ((REQUESTS, self.records, REQUEST), (SHADOWS, shadow, SHADOW)):
                data = pyarrow.dataset.dataset(list(map(str, paths)), schema=schema, format="parquet")
                self.connection.register(name, data if paths else schema.empty_table())
        for job, artifact in self.artifacts.items():
            for table in (name for name in artifact.record.tables if artifact.table(name).shards):
                if job.startswith(("students/", "search/")):
                    selects.setdefault(table, []).append(self._register_student(job, artifact, table))
                else:
                    self.connection.register(table, dataset(artifact, table, migrated=self._migrated.name))
        for name, parts in selects.items():
            self.connection.execute(f'create view "{name}" as {" union all by name ".join(parts)}')
        return sorted(row[0] for row in self.connection.execute("show tables").fetchall() if "/" not in row[0])

    def _register_student(self, job: str, artifact: Artifact, table: str) -> str:
        """Register a student's table, and return a SELECT of it that has the column `student`."""
        data = dataset(artifact, table, migrated=self._migrated.name)
        self.connection.register(f"{job}/{table}", data)
        student = "" if "student" in data.schema.names else f", '{job.partition('/')[2]}' as student"
        return f'select *{student} from "{job}/{table}"'


def finished(run: str) -> dict[str, Artifact]:
    """Return the finished artifacts of a run, by job, in the order of the pipeline.

    Raises:
        MissingArtifact: no job has finished yet.
    """
    work = workspace.reopen(run)
    names = [
        *(job.name for job in pipeline(work.contract)),
        *(f"search/{student.name}/table" for student in work.contract.students),
    ]
    artifacts = {name: artifact for name in names if (artifact := load_artifact(work.folder / name))}
    if not artifacts:
        raise MissingArtifact(f"{work.folder}: no job has finished yet. `rayleigh status {run}` shows how far it is.")
    return artifacts


def dataset(artifact: Artifact, name: str, *, migrated: str) -> pyarrow.dataset.Dataset:
    """Return the shards of the table `name` as an Arrow dataset, from which DuckDB reads only the columns and row groups it needs.

    The columns are those of `engine/rows.py`, whatever a single shard holds: one of another type is cast, one that is not there is
    null. Shards of an older schema version are written, in today's version, to the folder `migrated`, one at a time.
    """
    table = artifact.table(name)
    folder = artifact.folder / name
    paths = [f"{folder.path}/{shard.path}" for shard in table.shards]
    store = None if folder.is_local else PyFileSystem(FSSpecHandler(folder.fs))
    if table.schema_version < VERSION:
        store = None
        paths = [f"{migrated}/{artifact.record.fingerprint}-{name}-{number}.parquet" for number in range(len(table.shards))]
        for path, rows in zip(paths, iterate(folder, table), strict=True):
            Path(path).write_bytes(parquet_bytes(rows))
    return pyarrow.dataset.dataset(paths, schema=TABLES.get(name), format="parquet", filesystem=store)


def as_table(result: pa.RecordBatchReader) -> Iterator[str]:
    """Yield the first rows as an aligned table, and a line that says so if there are more."""
    rows: list[list[object]] = []
    for batch in result:
        rows += [[_short(value) for value in row.values()] for row in batch.slice(0, SHOWN_ROWS + 1 - len(rows)).to_pylist()]
        if len(rows) > SHOWN_ROWS:
            break
    yield columns(rows[:SHOWN_ROWS], head=result.schema.names)
    if len(rows) > SHOWN_ROWS:
        yield f"(the first {SHOWN_ROWS} rows; --json prints all)"


def as_lines(result: pa.RecordBatchReader) -> Iterator[str]:
    """Yield every row as one line of JSON; NaN and infinity, which JSON does not have, become null, in lists and structs, too."""
    for batch in result:
        for row in batch.to_pylist():
            yield to_json(row, inf_nan_mode="null", fallback=str).decode()


def _short(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return value
    text = " ".join(str(value).split())
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."
