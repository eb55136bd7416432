"""What a release came from: every artifact on the way, by fingerprint."""

from collections.abc import Mapping
from typing import Any

from engine.storage.artifact import Artifact


def lineage(artifacts: Mapping[str, Artifact]) -> dict[str, dict[str, Any]]:
    """Return for each artifact, by the job that made it, its fingerprint, inputs, tally, package versions and commit."""
    keys = {"inputs", "row_counts", "packages", "commit"}
    return {
        name: {
            "folder": str(artifact.folder),
            "fingerprint": artifact.fingerprint,
            **artifact.record.model_dump(mode="json", include=keys),
        }
        for name, artifact in artifacts.items()
    }
