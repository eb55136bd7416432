"""The data contracts of a run's tables: files against their records, rows against their rules, tables against each other."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa

from engine.columns import declaration
from engine.integrity.files import check_digests, check_files, check_lineage
from engine.integrity.tables import CheckedTable, check_columns, check_counts, check_references, check_rows
from engine.records.check_data import DataCheck, Violation
from engine.storage.artifact import Artifact
from jobs import places
from jobs.commands.sql import dataset, finished
from jobs.tables import schema_of


def check_data(run: str, *, quick: bool = False) -> DataCheck:
    """Check every finished artifact of `run`; `quick`: files alone, no row is read.

    Raises:
        MissingArtifact: no job has finished yet.
    """
    artifacts = finished(run)
    files = {job: check_files(artifact) for job, artifact in artifacts.items()}
    violations = [each for checked in files.values() for each in checked.violations]
    violations += check_lineage(artifacts)
    names = [f"{job}/{name}" for job, artifact in artifacts.items() for name in artifact.record.tables]
    whole = {
        key: table for key, table in contracted(artifacts).items() if table.name not in files[table.artifact.record.job].damaged
    }
    tables = {} if quick else whole
    if not quick:
        violations += [each for job, artifact in artifacts.items() for each in check_digests(artifact, files[job].damaged)]
        violations += _rows(tables, artifacts)
    order = {job: number for number, job in enumerate(artifacts)}
    return DataCheck(
        run=str(places.run_folder(run)),
        artifacts=len(artifacts),
        files=sum(checked.files for checked in files.values()),
        tables=len(tables),
        rows=sum(table.artifact.record.tables[table.name].rows for table in tables.values()),
        violations=tuple(sorted(violations, key=lambda each: (order.get(each.job, len(order)), each.table))),
        skipped=tuple(name for name in names if name not in tables),
    )


def as_text(result: DataCheck) -> str:
    """Return a summary for a person: each violation with what to do."""
    lines = []
    for each in result.violations:
        place = f"{each.job}/{each.table}".rstrip("/") + (f".{each.column}" if each.column else "")
        ids = f"\n    first: {', '.join(each.ids)}" if each.ids else ""
        lines.append(f"{place}: {each.rule}: {each.count}: {each.found}{ids}\n    next: {each.next}")
    skipped = f"; rows not read of {', '.join(result.skipped)}" if result.skipped else ""
    checked = f"{result.artifacts} artifacts, {result.files} files, {result.tables} tables, {result.rows:,} rows{skipped}"
    verdict = f"{len(result.violations)} violations" if result.violations else "every rule holds"
    return "\n".join([*lines, f"{result.run}: {verdict} ({checked})"])


def contracted(artifacts: Mapping[str, Artifact]) -> dict[str, CheckedTable]:
    """Return `job/table` -> the tables of `artifacts` that have a contract, also those without rows, which may have no file."""
    tables = {}
    for job, artifact in artifacts.items():
        for name in artifact.record.tables:
            schema = schema_of(f"{job}/{name}")
            declared = declaration(schema) if schema else None
            if declared:
                tables[f"{job}/{name}"] = CheckedTable(artifact, name, declared)
    return tables


def _rows(tables: Mapping[str, CheckedTable], artifacts: Mapping[str, Artifact]) -> list[Violation]:
    """Return the violations of rows; tables whose shards lack a column are not read."""
    with TemporaryDirectory(prefix="rayleigh-check-") as scratch:
        spill = str(Path(scratch) / "spill")
        with duckdb.connect(config={"temp_directory": spill, "memory_limit": "2GB"}) as connection:
            violations: list[Violation] = []
            readable: dict[str, CheckedTable] = {}
            for key, table in tables.items():
                wrong = list(check_columns(table))
                violations += wrong
                if not wrong:
                    readable[key] = table
                    connection.register(key, _opened(table, scratch))
            for table in readable.values():
                violations += check_rows(connection, table)
            violations += check_references(connection, readable)
            return violations + list(check_counts(connection, readable, artifacts))


def _opened(table: CheckedTable, scratch: str) -> "pa.dataset.Dataset | pa.Table":
    """Return the rows of a table for DuckDB; one without files has none, and its references are checked all the same."""
    if table.artifact.record.tables[table.name].shards:
        return dataset(table.artifact, table.name, migrated=scratch)
    return pa.table({column.name: pa.array([], column.type) for column in table.declared.columns})
