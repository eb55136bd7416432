"""`rayleigh schema package`: the data contracts of a run as a Data Package."""

from pydantic import JsonValue

from engine.integrity.package import data_package
from jobs import workspace
from jobs.commands.check_data import contracted
from jobs.commands.sql import finished


def schema_package(run: str) -> dict[str, JsonValue]:
    """Return the package of the finished tables of `run`, for a file in its folder; no row is read.

    Raises:
        MissingArtifact: no job has finished yet.
    """
    work = workspace.reopen(run)
    return data_package(work.contract.name, contracted(finished(run)), root=work.folder.url)
