"""Every table of every finished artifact as a DuckDB view, read-only and streamed from the shards that the records list."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import pyarrow.dataset
from pyarrow.fs import FSSpecHandler, PyFileSystem

from engine.errors import InputError, MissingArtifact
from engine.rows import TABLES, VERSION, Row
from engine.serving.record_files import SHADOW_FOLDER, is_records, shards
from engine.serving.schemas import REQUEST, SHADOW
from engine.storage.artifact import Artifact, load_artifact
from engine.storage.folder import Folder
from engine.storage.shards import iterate, parquet_bytes
from jobs import places, workspace
from jobs.commands.sql_docs import column_docs, record_docs
from jobs.commands.sql_overview import ROWS, RunSource, overview
from jobs.pipeline import pipeline

READS = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
REQUESTS, SHADOWS = "requests", "shadows"  # tables of the records of a server
COLUMNS = "columns"  # table of the documentation
LISTINGS = 3  # of the files of records, which a server puts together
MOST_IDS = 5  # that begin alike, in a message
DESCRIBE = re.compile(r"\s*desc(?:ribe)?\s+(?:table\s+)?\"?(\w+)\"?\s*;?\s*", re.IGNORECASE)
DOCUMENTED = f'select "column", type, doc from {COLUMNS} where "table" = ? order by position'


class RecordsMoved(InputError):
    """A writer put files of records together, or removed them, while they were read."""


class Views:
    """A connection that contains the tables of runs, of their registry and of records of requests, and nothing else."""

    def __init__(self, *runs: str, registry: str | None = None, labelled: bool = False) -> None:
        """Open run folders, and folders with records of requests, with the tables `requests` and `shadows`.

        With several runs, or `labelled`, each table begins with the column `run`. `registry`: its folder, by default the one beside
        the first run.

        Raises:
            MissingArtifact: no run is in a folder, or no job of it has finished yet.
            StorageError: a record of a run, or of the registry, is damaged.
        """
        folders = [places.run_folder(run) for run in runs]
        self.run = ", ".join(map(str, folders))
        names = dict(zip(runs, run_names(runs), strict=True))
        self.records = {names[run]: Path(each.path) for run, each in zip(runs, folders, strict=True) if _has_records(each)}
        self.sources = [
            RunSource(names[run], each, finished(run))
            for run, each in zip(runs, folders, strict=True)
            if names[run] not in self.records
        ]
        self.artifacts: Mapping[str, Artifact] = self.sources[0].artifacts if self.sources else {}
        self.labelled = labelled or len(runs) > 1
        self.connection = duckdb.connect(":memory:")
        self.connection.execute("set enable_progress_bar = false")  # it is printed to stdout, into --json
        self._scratch = TemporaryDirectory(prefix="rayleigh-sql-")
        self.migrated = self._scratch.name
        self.shards: list[Path] = []
        """Files of records, as they were listed last."""
        self.tables = self._create()
        self.views = self._create_overview(registry)
        self.names = [*self.tables, *self.views]
        self._document()
        self.connection.execute("set enable_external_access = false")
        self.connection.execute("set lock_configuration = true")

    def query(self, query: str, parameters: Sequence[object] = ()) -> pa.RecordBatchReader:
        """Return the result of a SELECT, streamed; of `describe TABLE` its columns with their documentation.

        Records of requests are listed once more if a file of them is gone, as a server puts those of an hour together.

        Raises:
            InputError: the query is not one reading statement, or names a table or column that does not exist.
            RecordsMoved: a file of records went again, or while the result was read.
        """
        try:
            return self._query(query, parameters)
        except RecordsMoved:
            self._create()
            return self._query(query, parameters)

    def _query(self, query: str, parameters: Sequence[object]) -> pa.RecordBatchReader:
        if (described := DESCRIBE.fullmatch(query)) and described[1].lower() in self.names:
            query, parameters = DOCUMENTED, [described[1].lower()]
        try:
            kinds = [statement.type for statement in self.connection.extract_statements(query)]
            if len(kinds) != 1 or kinds[0] not in READS:
                names = ", ".join(kind.name for kind in kinds) or "none"
                raise InputError(f"sql: found {names}, expected one SELECT: a run is never changed by a query.")
            reader = self.connection.sql(query, params=list(parameters) or None).to_arrow_reader()
            return pa.RecordBatchReader.from_batches(reader.schema, self._batches(reader)) if self.records else reader
        except duckdb.CatalogException as error:
            tables = f"The tables of {self.run} are: {', '.join(self.tables) or 'none yet'}."
            raise InputError(f"sql: {error}\n{tables} And of all runs: {', '.join([*self.views, COLUMNS])}.") from None
        except duckdb.Error as error:
            self._check_shards()
            raise InputError(f"sql: {error}") from None

    def _batches(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        except (OSError, pa.ArrowException, duckdb.Error):
            self._check_shards()
            raise

    def _check_shards(self) -> None:
        if gone := next((path for path in self.shards if not path.exists()), None):
            raise RecordsMoved(f"sql: {gone}: was put together with others, or removed, while it was read. Ask again.") from None

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return all rows of a result that fits in memory."""
        try:
            return self.query(query, parameters).read_all().to_pylist()
        except RecordsMoved:
            self._create()
            return self.query(query, parameters).read_all().to_pylist()

    def row(self, table: str, column: str, value: str) -> Row | None:
        """Return a row of `table` whose `column` is `value`; None if there is none, or no such table."""
        rows = self.rows(f"select * from {table} where {column} = ? limit 1", [value]) if table in self.names else []
        return rows[0] if rows else None

    def ids(self, table: str, column: str, start: str) -> list[str]:
        """Return the first values of `column` that begin with `start`, at most MOST_IDS."""
        if table not in self.names:
            return []
        query = f"select distinct {column} as id from {table} where starts_with({column}, ?) order by id limit {MOST_IDS}"
        return [row["id"] for row in self.rows(query, [start])]

    def _create(self) -> list[str]:
        """Create a view of every table, and return their names. Those of several runs, or students, become one view."""
        selects: dict[str, list[str]] = {}
        self.shards = []
        for run, folder in self.records.items():
            for name, place, schema in ((REQUESTS, folder, REQUEST), (SHADOWS, folder / SHADOW_FOLDER, SHADOW)):
                self._register(selects, name, run, self._recorded(place, schema))
        for run in self.sources:
            for job, artifact in run.artifacts.items():
                for table in (name for name in artifact.record.tables if artifact.table(name).shards):
                    student = job.partition("/")[2] if job.startswith(("students/", "search/")) else None
                    rows = dataset(artifact, table, migrated=self.migrated)
                    self._register(selects, table, run.name, rows, job=job, student=student)
        for name, parts in selects.items():
            self.connection.execute(f"create or replace view {_quoted(name)} as {' union all by name '.join(parts)}")
        return sorted(selects)

    def _recorded(self, folder: Path, schema: pa.Schema) -> "pyarrow.dataset.Dataset | pa.Table":
        """Return the rows of a folder of records; listed again if a file is gone before it is opened."""
        gone = None
        for _ in range(LISTINGS):
            files = shards(folder)
            try:
                found = pyarrow.dataset.dataset(list(map(str, files)), schema=schema, format="parquet") if files else None
            except FileNotFoundError as error:
                gone = error
                continue
            self.shards += files
            return found or schema.empty_table()
        raise RecordsMoved(f"sql: {folder}: files were put together or removed whenever they were listed: {gone}. Ask again.")

    def _register(
        self, selects: dict[str, list[str]], table: str, run: str, rows: "pyarrow.dataset.Dataset | pa.Table", *,
        job: str = "", student: str | None = None,
    ) -> None:  # fmt: skip
        """Register the rows of one artifact, and add a SELECT of them, with run and student, to `selects`."""
        source = f"{run}/{job}/{table}"
        self.connection.register(source, rows)
        labels = [f"{_text(run)} as run"] if self.labelled else []
        added = [f"{_text(student)} as student"] if student is not None and "student" not in rows.schema.names else []
        selects.setdefault(table, []).append(f"select {', '.join([*labels, '*', *added])} from {_quoted(source)}")

    def _create_overview(self, registry: str | None) -> list[str]:
        """Create the views over runs and registry; the artifacts' own tables have precedence."""
        folder = Folder(workspace.registry(registry, self.sources[0].folder)) if self.sources else None
        folder = places.run_folder(registry) if registry else folder
        first = [pa.field("run", pa.string())] if self.labelled else []
        records = {name: pa.schema([*first, *schema]).empty_table() for name, schema in ((REQUESTS, REQUEST), (SHADOWS, SHADOW))}
        created = []
        for name, rows in {**overview(self.sources, folder), **records}.items():
            if name not in self.tables:
                self.connection.register(name, rows)
                created.append(name)
        return sorted(created)

    def _document(self) -> None:
        """Register the table of the columns."""
        query = "select table_name, column_name, data_type, column_index from duckdb_columns() order by all"
        rows = [row for row in self.connection.execute(query).fetchall() if row[0] in self.names]
        docs = {name: record_docs(ROWS[name]) if name in ROWS else column_docs(name) for name in self.names}
        found = [(table, column, kind, index, docs[table].get(column, "")) for table, column, kind, index in rows]
        names = ("table", "column", "type", "position", "doc")
        table = pa.table({name: [row[index] for row in found] for index, name in enumerate(names)})
        self.connection.register(COLUMNS, table)


def run_names(runs: Sequence[str]) -> list[str]:
    """Return a short, different name for each run: the last part of its path, and as much before it as is needed.

    Raises:
        InputError: two of `runs` are the same folder.
    """
    urls = [places.run_folder(run).url for run in runs]
    if twice := sorted({url for url in urls if urls.count(url) > 1}):
        raise InputError(f"{twice[0]}: found it twice, expected different runs.")
    parts = [url.split("/") for url in urls]
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(each[-depth:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return urls


def _has_records(folder: Folder) -> bool:
    return folder.is_local and is_records(Path(folder.path))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


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
        store, paths = None, migrated_shards(artifact, name, migrated)
        for path, rows in zip(paths, iterate(folder, table), strict=True):
            Path(path).write_bytes(parquet_bytes(rows))
    return pyarrow.dataset.dataset(paths, schema=TABLES.get(name), format="parquet", filesystem=store)


def migrated_shards(artifact: Artifact, name: str, folder: str) -> list[str]:
    """Return the paths below `folder` of the shards of the table `name` in today's schema version."""
    shards = range(len(artifact.table(name).shards))
    return [f"{folder}/{artifact.record.fingerprint}-{name}-{number}.parquet" for number in shards]
