"""Replace a finished artifact by another one; a process that dies in between leaves the old one whole, or the new one.

Shards are named after their content, so those of both can be in one folder; the record, which is written at once, says which of
them count. The old artifact, and what was made from it, is kept below `earlier/`. All this holds only for artifacts that
consist of tables.
"""

from collections.abc import Sequence

from engine.runs.job import Job
from engine.storage.artifact import RECORD, Artifact, load_artifact, write_record
from engine.storage.folder import Folder

EARLIER = "earlier"
UNKNOWN = "unknown"  # in place of the fingerprint of an artifact that no longer exists
DIGITS = 12  # of a fingerprint in a folder's name


def archive(run: Folder, fingerprint: str) -> Folder:
    """Return the folder that keeps the artifact with `fingerprint`, and what was made from it."""
    return run / EARLIER / fingerprint[:DIGITS]


def copy(artifact: Artifact, folder: Folder) -> None:
    """Copy `artifact`, which consists of tables, to `folder`: shards that are not there yet, documents, then the record.

    A process that dies before the record leaves the documents of the new artifact with the old one, of which they are no part.
    """
    for path in _shards(artifact):
        if not folder.exists(path):
            folder.write(path, artifact.folder.read(path))
    for file in artifact.record.documents:
        folder.write(file.path, artifact.folder.read(file.path))
    write_record(folder, artifact.record)


def swap_in(artifact: Artifact, folder: Folder) -> None:
    """Replace the artifact in `folder` by `artifact`; the shards of the old one are removed afterwards."""
    copy(artifact, folder)
    listed = {RECORD, *_shards(artifact), *(file.path for file in artifact.record.documents)}
    for path in folder.files():
        if path not in listed:
            folder.remove(path)


def archive_stale(run: Folder, jobs: Sequence[Job], name: str) -> list[str]:
    """Move artifacts that were made from an older artifact `name` to its archive; return the jobs that must run again.

    `jobs` are those of the pipeline. An artifact is stale if one of its inputs is gone, has other rows, or is stale itself.
    """
    stale: dict[str, Artifact] = {}
    origin = ""
    for job in jobs[[job.name for job in jobs].index(name) + 1 :]:
        artifact = load_artifact(run / job.name)
        if artifact and any(_differs(run, source, then) or source in stale for source, then in artifact.record.inputs.items()):
            stale[job.name] = artifact
            origin = origin or artifact.record.inputs.get(name, "")
    for job_name, artifact in reversed(stale.items()):  # the one that names its origin goes last
        target = archive(run, origin or UNKNOWN) / job_name
        target.remove()
        artifact.folder.rename_to(target)
    return list(stale)


def _differs(run: Folder, name: str, fingerprint: str) -> bool:
    artifact = load_artifact(run / name)
    return artifact is None or artifact.fingerprint != fingerprint


def _shards(artifact: Artifact) -> list[str]:
    return [f"{name}/{shard.path}" for name, table in artifact.record.tables.items() for shard in table.shards]
