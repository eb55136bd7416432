"""Artifacts: folders that never change once their `record.json` exists, and the writer that builds one."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TypeVar

import pyarrow as pa
from pydantic import ValidationError

from engine.errors import ConservationError, MissingArtifact, StorageError
from engine.records.base import Json, Record
from engine.records.record import RECORD_VERSION, ArtifactRecord, Identity, RowCounts, Table
from engine.rows import VERSION, content_id
from engine.storage.folder import Folder
from engine.storage.migrations import promote
from engine.storage.provenance import commit, packages
from engine.storage.readme import README, readme
from engine.storage.shards import read_table, write_table

RECORD = "record.json"
BUILDING = ".building"
M = TypeVar("M", bound=Record)


@dataclass(frozen=True)
class Artifact:
    """A finished artifact."""

    folder: Folder
    record: ArtifactRecord

    def table(self, name: str) -> Table:
        """Return the shards of the table `name`.

        Raises:
            MissingArtifact: the artifact has no such table.
        """
        if name not in self.record.tables:
            raise MissingArtifact(f"{self.folder}: has no table {name!r}; it has {sorted(self.record.tables)}.")
        return self.record.tables[name]

    def read(self, name: str, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
        """Return the table `name`, which must fit in memory, in `schema`."""
        return read_table(self.folder / name, self.table(name), schema, columns)

    def metrics(self, kind: type[M]) -> M:
        """Return what the job measured, as a `kind`.

        Raises:
            ValidationError: another job wrote the record.
        """
        return kind.model_validate(self.record.metrics)

    @property
    def fingerprint(self) -> str:
        """Hash of recipe and content: the identity of a job that reads this artifact depends on it."""
        digests = {name: table.digest for name, table in self.record.tables.items()}
        files = json.dumps([asdict(file) for file in self.record.files], sort_keys=True)
        return content_id(self.record.fingerprint, json.dumps(digests, sort_keys=True), files)


@dataclass
class ArtifactWriter:
    """An artifact that is being built. It becomes visible with `finish`."""

    final: Folder
    started: float = field(default_factory=time.time)
    tables: dict[str, Table] = field(default_factory=dict)
    metrics: Record | Json = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Folder:
        """Where the job writes: a temporary folder, or the final one on a store that cannot rename folders."""
        parent, _, name = self.final.url.rpartition("/")
        return Folder(f"{parent}/{BUILDING}-{name}") if self.final.is_local else self.final

    def clear(self) -> None:
        """Remove what an earlier attempt left behind."""
        self.folder.remove()

    def abandon(self) -> None:
        """Remove what this attempt has written, as far as the store can be reached: the next attempt begins with `clear`."""
        with suppress(StorageError):
            self.clear()

    def put(self, name: str, table: pa.Table, schema: pa.Schema) -> None:
        """Write a table that fits in memory."""
        self.tables[name] = write_table(self.folder / name, table, schema)

    def finish(self, identity: Identity, row_counts: RowCounts) -> Artifact:
        """Write `README.md` and the record, and move the folder to its final name.

        Raises:
            ConservationError: the job lost or invented rows.
            StorageError: the store is read-only or full.
        """
        require_conserved(row_counts, str(self.final))
        self.warnings += nan_findings(identity.job, self.tables)
        listed = {RECORD, README, *(f"{name}/{shard.path}" for name, table in self.tables.items() for shard in table.shards)}
        in_tables = tuple(f"{name}/" for name in self.tables)
        files = []
        for path in self.folder.files():
            if path.startswith(in_tables) and path not in listed:
                self.folder.remove_file(path)  # written by a task that was retried
            elif path not in listed:
                files.append(self.folder.measure(path))
        record = ArtifactRecord(
            version=RECORD_VERSION,
            job=identity.job,
            recipe=identity.recipe,
            inputs=identity.inputs,
            fingerprint=identity.fingerprint,
            row_counts=row_counts,
            tables=self.tables,
            files=tuple(files),
            metrics=self.metrics.model_dump(mode="json") if isinstance(self.metrics, Record) else self.metrics,
            warnings=tuple(self.warnings),
            started=round(self.started, 3),
            seconds=round(time.time() - self.started, 3),
            packages=packages(),
            commit=commit(),
        )
        self.folder.write(README, readme(record, self.folder, Artifact(self.final, record).fingerprint).encode())
        record = record.model_copy(update={"documents": (self.folder.measure(README),)})
        write_record(self.folder, record)
        if self.folder.url != self.final.url:
            self.final.remove()
            self.folder.rename_to(self.final)
        return Artifact(self.final, record)


def nan_findings(job: str, tables: dict[str, Table]) -> Iterator[str]:
    """Yield a sentence for each column of `tables`, which `job` wrote, that has values which are no number."""
    for name, table in tables.items():
        counts: Counter[str] = Counter()
        for shard in table.shards:
            counts.update(shard.nan)
        for column, count in sorted(counts.items()):
            yield (
                f"{job}: {count} of the values of {name}.{column} are NaN, in {table.rows} rows. No job writes NaN on purpose, "
                "a value that is not there is null: sums, means and orders over them are undefined."
            )


def write_record(folder: Folder, record: ArtifactRecord) -> None:
    """Write `record` into `folder`: from now on the artifact there is finished, also after a power cut."""
    shards = [f"{name}/{shard.path}" for name, table in record.tables.items() for shard in table.shards]
    folder.sync([*shards, *(file.path for file in (*record.files, *record.documents))])
    folder.write(RECORD, json.dumps(record.model_dump(mode="json"), indent=1).encode(), durable=True)


def load_artifact(folder: Folder) -> Artifact | None:
    """Return the finished artifact in `folder`, or None if it has no record. Records of earlier versions are read, too.

    Raises:
        StorageError: the record is not JSON, or is none of an artifact, or a newer version of Rayleigh wrote it or a table.
    """
    if not folder.exists(RECORD):
        return None
    try:
        raw = json.loads(folder.read(RECORD))
    except ValueError as error:
        raise StorageError(f"{folder}/{RECORD}: is not JSON: {error}. Delete {folder} and run again.") from None
    try:
        _require_known(folder, raw.get("version", 1) if isinstance(raw, dict) else 1, RECORD_VERSION)
        artifact = Artifact(folder, ArtifactRecord.model_validate(promote(raw)))
        schemas = [table.schema_version for table in artifact.record.tables.values()]
        _require_known(folder, max(schemas, default=1), VERSION, "tables of ")
        return artifact
    except ValidationError as error:
        places = sorted({".".join(map(str, problem["loc"])) for problem in error.errors()})
        raise StorageError(
            f"{folder}/{RECORD}: is no record of an artifact: see {', '.join(places)}. Delete {folder} and run again."
        ) from None


def _require_known(folder: Folder, found: object, known: int, of: str = "") -> None:
    """Raise StorageError if the version of a form, which it names itself, is one that this program cannot know."""
    if isinstance(found, int) and found > known:
        raise StorageError(
            f"{folder}/{RECORD}: found {of}version {found}, expected at most {known}: a newer version of Rayleigh wrote it. Use "
            "that version, or a new run folder."
        )


def require_conserved(row_counts: RowCounts, where: str) -> None:
    """Raise ConservationError if rows in are not rows out; `where` names the output."""
    if not row_counts.conserved:
        total = sum(row_counts.rows_out.values())
        raise ConservationError(
            f"{where}: {row_counts.rows_in} rows in, {total} rows out: {row_counts.rows_out}. This is a bug of Rayleigh."
        )
