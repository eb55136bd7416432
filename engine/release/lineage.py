"""Lists the artifacts that a release was made from."""

from collections.abc import Mapping

from engine.records.release import LineageEntry, LineageRows
from engine.storage.artifact import Artifact


def lineage(artifacts: Mapping[str, Artifact]) -> dict[str, LineageEntry]:
    """Return artifact name -> fingerprint, inputs, row counts, package versions and commit."""
    return {name: _entry(artifact) for name, artifact in artifacts.items()}


def _entry(artifact: Artifact) -> LineageEntry:
    record = artifact.record
    return LineageEntry(
        folder=str(artifact.folder),
        fingerprint=artifact.fingerprint,
        inputs=record.inputs,
        row_counts=LineageRows.model_validate(record.row_counts, from_attributes=True),
        packages=record.packages,
        commit=record.commit,
    )
