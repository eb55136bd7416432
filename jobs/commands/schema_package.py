"""`rayleigh schema package`: the data contracts of a run as a Data Package."""

from typing import NamedTuple

from engine.integrity.package import Json, data_package, row_rules
from jobs import workspace
from jobs.commands.check_data import contracted
from jobs.commands.sql import finished


class Contracts(NamedTuple):
    """The contracts of a run's tables."""

    package: Json
    """Data Package, for a file in the folder of the run."""
    text: str
    """A line for each table, and how the package is written."""


def schema_package(run: str) -> Contracts:
    """Return the contracts of the finished tables of `run` that have files; no row is read.

    Raises:
        MissingArtifact: no job has finished yet.
    """
    work = workspace.reopen(run)
    contracts = contracted(finished(run))
    tables = {key: table for key, table in contracts.items() if table.artifact.record.tables[table.name].shards}
    lines = [
        f"{key}: {table.artifact.record.tables[table.name].rows} rows, {len(table.declared.columns)} columns, "
        f"{len([*row_rules(table)])} rules"
        for key, table in tables.items()
    ]
    text = "\n".join([*lines, f"rayleigh schema package {run} --json > {run}/datapackage.json"])
    return Contracts(data_package(work.contract.name, tables, root=work.folder.url), text)
