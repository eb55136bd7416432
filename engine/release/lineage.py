"""Lists the artifacts that a release was made from."""

from collections.abc import Mapping

from engine.records.release import LineageEntry
from engine.storage.artifact import Artifact


def lineage(artifacts: Mapping[str, Artifact]) -> dict[str, LineageEntry]:
    """Return artifact name -> fingerprint, inputs, row counts, package versions and commit."""
    return {
        name: LineageEntry(
            folder=str(artifact.folder),
            fingerprint=artifact.fingerprint,
            **{key: getattr(artifact.record, key) for key in ("inputs", "row_counts", "packages", "commit")},
        )
        for name, artifact in artifacts.items()
    }
