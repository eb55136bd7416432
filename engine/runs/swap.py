"""A finished artifact takes the place of another: whoever dies in between leaves the old one whole, or the new one.

Shards are named after their content, so those of both can lie in one folder; the record says which count, and is written at once.
What was there before, and what was made from it, is kept below `earlier/`. All this holds for artifacts of tables alone.
"""

import json
from collections.abc import Sequence

from engine.storage.artifact import RECORD, Artifact, load_artifact
from engine.runs.job import Job
from engine.storage.shards import Folder

EARLIER = "earlier"
UNKNOWN = "unknown"  # origin of what was made from an artifact that is gone
SHOWN = 12  # digits of a fingerprint in a folder's name


def place(run: Folder, fingerprint: str) -> Folder:
    """Return where the artifact with `fingerprint` is kept, and what was made from it."""
    return run / EARLIER / fingerprint[:SHOWN]


def keep(artifact: Artifact, folder: Folder) -> None:
    """Copy `artifact` to `folder`, its record last; what is there already stays."""
    if not folder.exists(RECORD):
        _copy(artifact, folder)


def put(artifact: Artifact, folder: Folder) -> None:
    """Let `artifact` be what lies in `folder`; the shards of what lay there before are removed afterwards."""
    _copy(artifact, folder)
    listed = {RECORD, *_shards(artifact)}
    for path in folder.files():
        if path not in listed:
            folder.remove(path)


def set_aside(run: Folder, jobs: Sequence[Job], name: str) -> list[str]:
    """Move what was made from another artifact `name` than today's beside that one; return the jobs that must run again.

    `jobs` are the line's. An artifact is out of date if one of its inputs is gone, has other rows, or is out of date itself.
    """
    stale: dict[str, Artifact] = {}
    origin = ""
    for job in jobs[[job.name for job in jobs].index(name) + 1 :]:
        found = load_artifact(run / job.name)
        if found and any(_differs(run, one, then) or one in stale for one, then in found.record["inputs"].items()):
            stale[job.name] = found
            origin = origin or found.record["inputs"].get(name, "")
    for job_name, artifact in reversed(stale.items()):  # what names its origin goes last
        target = place(run, origin or UNKNOWN) / job_name
        target.remove()
        artifact.folder.rename_to(target)
    return list(stale)


def _differs(run: Folder, name: str, fingerprint: str) -> bool:
    found = load_artifact(run / name)
    return found is None or found.fingerprint != fingerprint


def _shards(artifact: Artifact) -> list[str]:
    return [f"{name}/{shard.path}" for name in artifact.record["tables"] for shard in artifact.table(name).shards]


def _copy(artifact: Artifact, folder: Folder) -> None:
    for path in _shards(artifact):
        if not folder.exists(path):
            folder.write(path, artifact.folder.read(path))
    folder.write(RECORD, json.dumps(artifact.record, indent=1).encode())
