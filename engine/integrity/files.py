"""The files of an artifact against its record, and the record against itself."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import StorageError, StoreUnreachable
from engine.records.check_data import Rule, Violation
from engine.records.record import FileEntry
from engine.storage.artifact import Artifact
from engine.storage.shards import hex_digest, read_shard, rows_digest

SHOWN = 5
RESTORE = "Restore it from a copy of the run, or delete {folder} and run again: what was paid is kept in the ledger of the run."
WROTE = "The files are as they were written: the job wrote this. Report it with these ids; `rayleigh trace RUN ID` shows the row."


class FileCheck(NamedTuple):
    """What the files of one artifact say."""

    files: int
    damaged: frozenset[str]
    """Names of tables whose rows cannot be trusted."""
    violations: tuple[Violation, ...]


def check_files(artifact: Artifact) -> FileCheck:
    """Compare size and hash of every file with the record; look for missing, foreign and wrongly counted ones."""
    job, record = artifact.record.job, artifact.record
    violations: list[Violation] = []
    damaged: set[str] = set()
    count = 0
    for name, table in record.tables.items():
        listed = [FileEntry(f"{name}/{shard.path}", shard.bytes, shard.sha256) for shard in table.shards]
        faults = {entry.path: fault for entry in listed if (fault := _fault(artifact, entry))}
        for entry, shard in zip(listed, table.shards, strict=True):
            if entry.path not in faults and (rows := _rows(artifact, entry.path)) != shard.rows:
                faults[entry.path] = f"found {rows} rows, the record lists {shard.rows}"
        violations += _of_faults(artifact, name, faults)
        damaged |= {name} if faults else set()
        if table.rows != sum(shard.rows for shard in table.shards):
            found = (
                f"the record counts {table.rows} rows of the table, and {sum(shard.rows for shard in table.shards)} in its files"
            )
            violations.append(violation(artifact, "count", found, table=name))
        count += len(listed)
        foreign = sorted(set((artifact.folder / name).files()) - {shard.path for shard in table.shards})
        if foreign:
            found = f"{len(foreign)} files that the record does not list: a reader of the folder reads them, too"
            advice = f"Remove them from {artifact.folder}/{name}, or put them elsewhere."
            ids = tuple(foreign[:SHOWN])
            violations.append(violation(artifact, "unlisted", found, table=name, count=len(foreign), ids=ids, advice=advice))
    others = [*record.files, *record.documents]
    violations += _of_faults(artifact, "", {entry.path: fault for entry in others if (fault := _fault(artifact, entry))})
    if not record.row_counts.conserved:
        found = f"{record.row_counts.rows_in} rows in, {sum(record.row_counts.rows_out.values())} rows out"
        violations.append(violation(artifact, "conservation", found, column=job))
    return FileCheck(count + len(others), frozenset(damaged), tuple(violations))


def check_digests(artifact: Artifact, damaged: frozenset[str]) -> Iterator[Violation]:
    """Yield a violation for each undamaged table whose rows are not those that the record counts. Reads shard by shard."""
    for name, table in artifact.record.tables.items():
        if name in damaged:
            continue
        total = sum(rows_digest(read_shard(artifact.folder / name, shard)) for shard in table.shards)
        if hex_digest(total) != table.digest:
            found = f"the rows have the digest {hex_digest(total)}, the record says {table.digest}"
            yield violation(artifact, "digest", found, table=name, count=table.rows)


def check_lineage(artifacts: Mapping[str, Artifact]) -> Iterator[Violation]:
    """Yield a violation for each artifact that was made from another one than the run holds."""
    for artifact in artifacts.values():
        for name, fingerprint in artifact.record.inputs.items():
            if name in artifacts and artifacts[name].fingerprint != fingerprint:
                found = f"made from {name} with the fingerprint {fingerprint}, the run holds {artifacts[name].fingerprint}"
                advice = f"`rayleigh run` makes it again once {artifact.folder} is deleted; or restore {artifacts[name].folder}."
                yield violation(artifact, "lineage", found, column=name, advice=advice)


def violation(
    artifact: Artifact, rule: Rule, found: str, *, table: str = "", column: str = "", count: int = 1, **others: object
) -> Violation:
    """Return a violation of `rule` in `artifact`; `others` are `ids` and `advice`, by default that the files be restored."""
    advice = str(others.get("advice") or RESTORE.format(folder=artifact.folder))
    ids = tuple(map(str, others.get("ids") or ()))  # pyright: ignore[reportArgumentType]
    job = artifact.record.job
    return Violation(job=job, table=table, column=column, rule=rule, count=count, ids=ids, found=found, next=advice)


def _of_faults(artifact: Artifact, table: str, faults: Mapping[str, str]) -> Iterator[Violation]:
    for path, fault in faults.items():
        yield violation(artifact, "file", fault, table=table, column=path.rpartition("/")[2], ids=(path,))


def _fault(artifact: Artifact, entry: FileEntry) -> str:
    """Return how a file differs from what the record says of it; "" if it does not."""
    if not artifact.folder.exists(entry.path):
        return "the file is missing"
    try:
        found = artifact.folder.measure(entry.path)
    except StoreUnreachable:
        raise  # of the network, not of the file
    except StorageError as error:
        return str(error)
    if found.bytes != entry.bytes:
        return f"found {found.bytes} bytes, the record lists {entry.bytes}"
    return "" if found.sha256 == entry.sha256 else f"found the SHA-256 {found.sha256[:20]}, the record lists {entry.sha256[:20]}"


def _rows(artifact: Artifact, path: str) -> int | None:
    try:
        with artifact.folder.open(path) as file:
            return pq.read_metadata(file).num_rows
    except (OSError, pa.ArrowException):
        return None
