"""Artifacts in, one artifact out: the unit of resume and lineage.

A finished job is skipped. A changed recipe is refused, and what changed is named. A missing input says which job makes it. A
crash leaves no record, so the job runs again. Jobs whose inputs are there run side by side; one that fails voids no other.
"""

import importlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from engine.contract import Contract, Profile
from engine.errors import RecipeMismatch, InputError, MissingArtifact
from engine.storage.artifact import Artifact, ArtifactWriter, RowCounts, load_artifact
from engine.rows import content_id
from engine.storage.shards import Folder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One step of the line."""

    name: str
    needs: tuple[str, ...]
    """Artifacts that it opens, by the names of the jobs that make them."""
    reads: tuple[str, ...]
    """Paths into the contract (`teachers`, `students.s`) that bear its identity."""
    run: str
    """`module:function`, imported only when the job runs: `function(context) -> RowCounts`."""
    inputs: str = ""
    """`module:function`: what else bears identity, such as the hashes of source files; `function(context) -> dict`."""
    follows: Mapping[str, str] = field(default_factory=dict)
    """Path of `reads` -> what lets the artifact follow a change there without being made anew; `{run}` stands for the run."""


@dataclass
class JobContext:
    """All that a job may touch."""

    job: Job
    contract: Contract
    profile: Profile
    root: str
    """Folder from which the contract's relative paths start."""
    models: str
    """Folder of unpacked models."""
    run: Folder
    writer: ArtifactWriter
    progress: Callable[[str], None] = field(default=lambda line: None)
    """Takes one line of progress."""
    log: Callable[[str], None] = field(default=lambda line: None)
    """Takes a line that stays: the start and the end of the job."""

    def artifact(self, name: str) -> Artifact:
        """Return the finished artifact of the job `name`.

        Raises:
            MissingArtifact: it has not been made.
        """
        found = load_artifact(self.run / name)
        if found is None:
            raise MissingArtifact(
                f"{self.job.name} needs {self.run}/{name}, which no finished job has made. Run the job {name!r} first."
            )
        return found

    @property
    def ledger(self) -> Folder:
        """Where this run keeps what must survive the job that it belongs to."""
        return self.run / "ledger"

    @property
    def paid(self) -> Folder:
        """Where paid work is kept, by content: the profile's ledger, which many runs may share, or the run's own."""
        return Folder(self.profile.ledger) if self.profile.ledger else self.ledger


@contextmanager
def nothing() -> Iterator[None]:
    """The default session: none."""
    yield


def up_to(jobs: Sequence[Job], name: str) -> tuple[Job, ...]:
    """Return the job `name` and all that it needs, in order.

    Raises:
        InputError: no job has that name.
    """
    if name not in {job.name for job in jobs}:
        raise InputError(f"--until: found {name!r}, expected one of {', '.join(job.name for job in jobs)}.")
    wanted = {name}
    for job in reversed(jobs):
        if job.name in wanted:
            wanted |= set(job.needs)
    return tuple(job for job in jobs if job.name in wanted)


def run_pipeline(jobs: Sequence[Job], context_for: Callable[[Job], JobContext], session: Callable[[], Any] = nothing) -> list[str]:
    """Run each job that has no finished artifact yet, in waves of those whose inputs are there; return the names that ran.

    `session` is entered once, before the first job that has to run.

    Raises:
        RecipeMismatch: an artifact was finished under another recipe; nothing has run.
        RayleighError: the first failure of a job, after the others of its wave have ended.
    """
    waiting = [job for job in jobs if not is_finished(context_for(job))]
    if not waiting:
        return []
    ran: list[str] = []
    with session():
        while waiting:
            names = {job.name for job in waiting}
            wave = [job for job in waiting if not names & set(job.needs)]
            _run_wave([context_for(job) for job in wave])
            ran += [job.name for job in wave]
            waiting = [job for job in waiting if job not in wave]
    for job in jobs:
        is_finished(context_for(job))  # an input that was rebuilt with other rows makes what was read from it stale
    return ran


def _run_wave(benches: Sequence[JobContext]) -> None:
    if len(benches) == 1:
        run_job(benches[0])
        return
    for context in benches:
        _imported(context.job.run)  # here: two threads that import torch at once see each other's half-made modules
    threads = ThreadPoolExecutor(len(benches))
    tasks = [threads.submit(run_job, context) for context in benches]
    try:
        wait(tasks)
    finally:
        threads.shutdown(wait=False)  # at Ctrl-C the session must end first: the jobs wait for what it holds
    failures = [failure for task in tasks if (failure := task.exception())]
    for failure in failures[1:]:
        failures[0].add_note(" ".join(["Beside it:", str(failure), *getattr(failure, "__notes__", [])]))
    if failures:
        raise failures[0]


def run_job(context: JobContext) -> Artifact:
    """Run one job and return its artifact. What an earlier attempt left half-written is removed first."""
    head = recipe_head(context)
    context.writer.clear()
    context.log(f"{context.job.name}: started")
    try:
        row_counts: RowCounts = _imported(context.job.run)(context)
        artifact = context.writer.finish(head, row_counts)
    except BaseException as error:
        context.writer.clear()
        error.add_note(f"This ended the job {context.job.name}.")
        context.log(f"{context.job.name}: ended by {type(error).__name__}")  # at once: the others of its wave may take long
        raise
    rows = ", ".join(f"{count} {label}" for label, count in row_counts.rows_out.items() if count)
    context.log(f"{context.job.name}: {artifact.record['seconds']:.0f} s, {rows}")
    return artifact


def is_finished(context: JobContext) -> bool:
    """Return whether the job's artifact is there and was made by the recipe of today.

    Raises:
        RecipeMismatch: it was made by another recipe.
    """
    found = load_artifact(context.run / context.job.name)
    if found is None:
        return False
    try:
        now = recipe_head(context)
    except MissingArtifact:
        return True  # made earlier, from inputs that have since been removed
    changes = list(differences(found.record["recipe"], now["recipe"]))
    changes += list(differences(found.record["inputs"], now["inputs"], "inputs"))
    if changes:
        listed = "\n".join(f"  {change}" for change in changes)
        raise RecipeMismatch(
            f"{context.run}/{context.job.name} was finished under another recipe:\n{listed}\n"
            f"Use a new run folder, or delete {context.run}/{context.job.name} and what was made from it to build it again."
            + _shorter_way(context, {path for path in now["recipe"] if found.record["recipe"].get(path) != now["recipe"][path]})
        )
    return True


def recipe_head(context: JobContext) -> dict[str, Any]:
    """Return what identifies the artifact: the recipe, its inputs' fingerprints and the hash of both."""
    whole = context.contract.model_dump(mode="json")
    whole["students"] = {student["name"]: student for student in whole["students"]}
    recipe: dict[str, Any] = {path: _at(whole, path) for path in context.job.reads}
    if context.job.inputs:
        recipe["sources"] = _imported(context.job.inputs)(context)
    inputs = {name: context.artifact(name).fingerprint for name in context.job.needs}
    return {
        "job": context.job.name,
        "recipe": recipe,
        "inputs": inputs,
        "fingerprint": content_id(_canonical(recipe), _canonical(inputs)),
    }


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yield `path: old -> new` for each value that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from differences(before, after, f"{path}.{index}")
    elif old != new:
        yield f"{path}: {_short(old)} -> {_short(new)}"


def _shorter_way(context: JobContext, changed: set[str]) -> str:
    """What to do instead if only paths have changed that the artifact can follow; else ""."""
    ways = {context.job.follows.get(path, "") for path in changed}
    return "" if "" in ways else "".join(f"\n{way.format(run=context.run)}" for way in sorted(ways))


def _imported(place: str) -> Callable[..., Any]:
    module, _, function = place.partition(":")
    return getattr(importlib.import_module(module), function)


def _at(tree: Any, path: str) -> Any:
    for key in path.split("."):
        tree = tree[key]
    return tree


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _short(value: Any) -> str:
    text = _canonical(value)
    return text if len(text) <= 60 else text[:57] + "..."
