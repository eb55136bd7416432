"""A folder that is immutable once its `record.json` lands, and the bench on which a job builds one."""

import json
import time
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from engine.errors import ConservationError, MissingArtifact, StorageError
from engine.records.base import Record
from engine.rows import content_id
from engine.storage.provenance import commit, packages
from engine.storage.shards import Folder, Table, read_table, write_table

RECORD = "record.json"
BUILDING = ".building"
M = TypeVar("M", bound=Record)


@dataclass(frozen=True)
class RowCounts:
    """What a job did with its rows: `rows_in` equals the sum of `rows_out` (label -> rows)."""

    rows_in: int
    rows_out: dict[str, int]

    def check(self, where: str) -> None:
        """Raise ConservationError if a row was lost or invented."""
        total = sum(self.rows_out.values())
        if total != self.rows_in:
            raise ConservationError(
                f"{where}: {self.rows_in} rows in, {total} rows out: {self.rows_out}. This is a bug of Rayleigh."
            )


@dataclass(frozen=True)
class Artifact:
    """A finished artifact."""

    folder: Folder
    record: dict[str, Any]

    def table(self, name: str) -> Table:
        """Return the manifest of the table `name`.

        Raises:
            MissingArtifact: the artifact has no such table.
        """
        if name not in self.record["tables"]:
            raise MissingArtifact(f"{self.folder}: has no table {name!r}; it has {sorted(self.record['tables'])}.")
        return Table.from_json(self.record["tables"][name])

    def read(self, name: str, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
        """Return the table `name`, which must fit in memory, in `schema`."""
        return read_table(self.folder / name, self.table(name), schema, columns)

    def metrics(self, kind: type[M]) -> M:
        """Return what the job measured, as a `kind`.

        Raises:
            ValidationError: the record was written by another job.
        """
        return kind.model_validate(self.record["metrics"])

    @property
    def fingerprint(self) -> str:
        """Hash of recipe and rows: what a job that reads this artifact depends on."""
        digests = {name: table["digest"] for name, table in self.record["tables"].items()}
        files = json.dumps(self.record["files"], sort_keys=True)
        return content_id(self.record["fingerprint"], json.dumps(digests, sort_keys=True), files)


@dataclass
class ArtifactWriter:
    """An artifact that is being built. Nothing reads it before `finish`."""

    final: Folder
    started: float = field(default_factory=time.time)
    tables: dict[str, Table] = field(default_factory=dict)
    metrics: Record | dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Folder:
        """Where the job writes."""
        parent, _, name = self.final.url.rpartition("/")
        return Folder(f"{parent}/{BUILDING}-{name}") if self.final.is_local else self.final

    def clear(self) -> None:
        """Remove what a crash left behind."""
        self.folder.remove()

    def put(self, name: str, table: pa.Table, schema: pa.Schema) -> None:
        """Write a table that fits in memory."""
        self.tables[name] = write_table(self.folder / name, table, schema)

    def finish(self, head: dict[str, Any], row_counts: RowCounts) -> Artifact:
        """Check conservation, write the record and move the folder to its name."""
        row_counts.check(str(self.final))
        listed = {RECORD, *(f"{name}/{shard.path}" for name, table in self.tables.items() for shard in table.shards)}
        in_tables = tuple(f"{name}/" for name in self.tables)
        files = []
        for path in self.folder.files():
            if path.startswith(in_tables) and path not in listed:
                self.folder.remove(path)  # written by a task that was retried
            elif path not in listed:
                files.append({"path": path, **self.folder.measure(path)})
        record = {
            **head,
            "row_counts": {"rows_in": row_counts.rows_in, "rows_out": row_counts.rows_out},
            "tables": {name: table.to_json() for name, table in self.tables.items()},
            "files": files,
            "metrics": self.metrics.model_dump(mode="json") if isinstance(self.metrics, Record) else self.metrics,
            "started": round(self.started, 3),
            "seconds": round(time.time() - self.started, 3),
            "packages": packages(),
            "commit": commit(),
        }
        self.folder.write(RECORD, json.dumps(record, indent=1).encode())
        if self.folder.url != self.final.url:
            self.final.remove()
            self.folder.rename_to(self.final)
        return Artifact(self.final, record)


def load_artifact(folder: Folder) -> Artifact | None:
    """Return the finished artifact in `folder`, or None if no record has landed.

    Raises:
        StorageError: the record is not JSON.
    """
    if not folder.exists(RECORD):
        return None
    try:
        return Artifact(folder, json.loads(folder.read(RECORD)))
    except ValueError as error:
        raise StorageError(f"{folder}/{RECORD}: is not JSON: {error}. Delete {folder} and run again.") from None
