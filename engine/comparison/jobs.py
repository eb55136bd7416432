"""Which jobs made something else in the other run, and why: their recipes and their inputs say it."""

from collections.abc import Iterator, Mapping, Sequence

from engine.comparison.keys import key_changes
from engine.records.comparison import JobChange
from engine.records.record import ArtifactRecord
from engine.runs.recipe import SOURCES, recipe_of
from engine.storage.artifact import Artifact

Artifacts = Mapping[str, Artifact]
"""Job -> its finished artifact."""


def job_changes(before: Artifacts, after: Artifacts, order: Sequence[str]) -> list[JobChange]:
    """Return every job of `order`, and why it differs."""
    changes: list[JobChange] = []
    for job in order:
        one, other = before.get(job), after.get(job)
        if one is None or other is None:
            state = "in neither" if one is other else "only after" if one is None else "only before"
            changes.append(JobChange(job=job, state=state, because=()))
        elif _content(one.record) == _content(other.record):
            changes.append(JobChange(job=job, state="same", because=()))
        else:
            known = {change.job for change in changes if change.state == "changed"}
            because = tuple(dict.fromkeys(_causes(one.record, other.record, known)))
            changes.append(
                JobChange(job=job, state="changed", because=because, environment=(*_environment(one.record, other.record),))
            )
    return changes


def _content(record: ArtifactRecord) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return what an artifact holds: a digest per table, which does not depend on shards, and the hashes of its files."""
    files = [] if record.job == "reports" else [(file.path, file.sha256) for file in record.files]  # they name time and folder
    return {name: table.digest for name, table in record.tables.items()}, files


def _causes(before: ArtifactRecord, after: ArtifactRecord, changed: set[str]) -> Iterator[str]:
    one, other = recipe_of(before), recipe_of(after)
    for path in sorted(one.keys() & other.keys()):  # a path that only one of the two reads did not matter to the other
        for change in key_changes(one[path], other[path], path):
            yield f"source {change.key.removeprefix(f'{SOURCES}.')}" if path == SOURCES else change.key
    for name in sorted(before.inputs.keys() | after.inputs.keys()):
        if name in changed or (before.inputs.get(name) is None) != (after.inputs.get(name) is None):
            yield name


def _environment(before: ArtifactRecord, after: ArtifactRecord) -> Iterator[str]:
    for name in sorted(before.packages.keys() | after.packages.keys()):
        if before.packages.get(name) != after.packages.get(name):
            yield f"{name}: {before.packages.get(name)} -> {after.packages.get(name)}"
    if before.commit != after.commit:
        yield f"commit: {_commit(before)} -> {_commit(after)}"


def _commit(record: ArtifactRecord) -> str | None:
    return record.commit and record.commit[:12] + ("+" if record.commit.endswith("+") else "")
