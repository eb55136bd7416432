"""The job runner: a job reads artifacts and makes one, which is the unit of resume and lineage.

A finished job is skipped. A changed recipe is refused, and the message names each changed value. A missing input is an error
that names the job that makes it. A crash leaves no record, so the job runs again. Jobs whose inputs are finished run at the
same time; one that fails does not void the others, and jobs to which it is optional run without it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from typing import Any

from engine.contract.contract import Contract
from engine.contract.profile import Profile
from engine.errors import InputError, MissingArtifact, RayleighError, RecipeMismatch
from engine.records.base import Json
from engine.runs.recipe import changes, identify, imported, recipe_of
from engine.runs.threads import at_once
from engine.storage.artifact import Artifact, ArtifactWriter, RowCounts, load_artifact
from engine.storage.folder import Folder

LAZY = ("transformers",)  # packages that exchange their module as they load: a thread that comes by meanwhile misses its names


@dataclass(frozen=True)
class Job:
    """One step of the pipeline."""

    name: str
    needs: tuple[str, ...]
    """Artifacts that it opens, by the names of the jobs that make them."""
    optional: tuple[str, ...] = field(default=(), kw_only=True)
    """Those of `needs` whose failure does not stop the job, as long as one of them is there. It runs again once the others are."""
    derived: tuple[str, ...] = field(default=(), kw_only=True)
    """Those of `needs` that follow from the others: they are made when this job has to run, and are no part of its identity. So an
    artifact of a version without them stays current."""
    reads: tuple[str, ...]
    """Paths into the contract that are part of its recipe, as `teachers`; an item of a list is called by its name: `students.s`."""
    ignores: tuple[str, ...] = field(default=(), kw_only=True)
    """Keys of what it reads that do not change what it makes, and are no part of its recipe."""
    run: str
    """`module:function`, imported only when the job runs: `function(context) -> RowCounts`."""
    begin: str = ""
    """`module:function` that begins what the job can do without its `optional` artifacts, beside the jobs that make them, and does
    not wait for it: `function(context, beside) -> object`, with the names of the jobs that have to run first. The job gets the
    object as `context.begun`, if all that happens in one command."""
    inputs: str = ""
    """`module:function` that returns the rest of the recipe, such as the hashes of source files: `function(context) -> dict`."""
    usable: str = ""
    """`module:function` that raises if later jobs cannot use the finished artifact: `function(context) -> None`."""
    in_process: str = ""
    """`module:function` that returns whether the job is so small that threads of this process run it, without a cluster:
    `function(context) -> bool`. By default it never is."""
    hints: Mapping[str, str] = field(default_factory=dict)
    """Path of `reads` -> advice for a change there that does not need a new artifact; `{run}` is replaced by the run folder."""
    losses: Mapping[str, str] = field(default_factory=dict)
    """Label of rows that are dropped for a fault or a likeness -> what to look at or to set if they are many."""
    chosen: tuple[str, ...] = ()
    """Labels of rows that the contract leaves out on purpose; no part of the rows of which `losses` are a share."""


@dataclass
class JobContext:
    """Everything that a job may use."""

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
    """Shows one line of progress, in place of the last one."""
    log: Callable[[str], None] = field(default=lambda line: None)
    """Prints a line that stays: the start and the end of the job."""
    begun: Any = None
    """What the job's `begin` has returned."""

    def artifact(self, name: str) -> Artifact:
        """Return the finished artifact of the job `name`.

        Raises:
            MissingArtifact: it has not been made.
        """
        artifact = load_artifact(self.run / name)
        if artifact is None:
            raise MissingArtifact(
                f"{self.job.name} needs {self.run}/{name}, which no finished job has made. Run the job {name!r} first."
            )
        return artifact

    @property
    def ledger(self) -> Folder:
        """Where this run keeps files that must survive a crash of their job, such as checkpoints and token usage."""
        return self.run / "ledger"

    @property
    def paid(self) -> Folder:
        """The ledger of paid work: the profile's, which runs may share, or the run's own."""
        return Folder(self.profile.ledger) if self.profile.ledger else self.ledger


def up_to(jobs: Sequence[Job], name: str) -> tuple[Job, ...]:
    """Return the job `name` and all jobs that it needs, in order.

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


def run_pipeline(
    jobs: Sequence[Job], context_for: Callable[[Job], JobContext], session: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> list[str]:
    """Run each job that has no finished artifact, in waves of jobs whose inputs are finished; return the names of those that ran.

    `session` is entered once, before the first job that has to run; if it yields a function, that is called before the first wave
    of which a job is not done in this process.

    Raises:
        RecipeMismatch: an artifact was finished under another recipe; nothing has run.
        RayleighError: the first failure of a job, after all jobs that can do without it have ended; or a finished job is of no use.
    """
    waiting = unfinished(jobs, context_for)
    fault: RayleighError | None = None
    for job in jobs:
        if job not in waiting and (fault := _fault(context_for(job))):
            raise fault
    if not waiting:
        return []
    ran, failures, missing, begun = list[str](), dict[str, Exception](), set[str](), dict[str, object]()
    with session() as start_cluster:
        while not fault and (waiting := _able(waiting, missing)):
            names = {job.name for job in waiting}
            wave = [job for job in waiting if not names & set(job.needs)]
            contexts = [replace(context_for(job), begun=begun.get(job.name)) for job in wave]
            if not all(map(_is_in_process, contexts)):
                if start_cluster:
                    start_cluster()
                begun |= _begin([job for job in waiting if job not in wave and job.name not in begun], names, context_for)
            failures |= _run_wave(contexts)
            missing |= failures.keys()
            finished = [job for job in wave if job.name not in failures]
            fault = next(filter(None, (_fault(context_for(job)) for job in finished)), None)
            ran += [job.name for job in finished]
            waiting = [job for job in waiting if job not in wave]
        _raise_first(list(failures.values()))  # inside the session, which adds how to go on
    if fault:
        raise fault  # outside of the session, which would advise to run the same command again
    for job in jobs:
        is_finished(context_for(job))  # an artifact is stale if an input was rebuilt with other rows
    return ran


def unfinished(jobs: Sequence[Job], context_for: Callable[[Job], JobContext]) -> list[Job]:
    """Return those of `jobs` that have to run; a derived artifact is made, or made again, only for a job that has to.

    Raises:
        RecipeMismatch: an artifact was finished under another recipe.
    """
    derived = {name for job in jobs for name in job.derived}
    waiting, needed = set[str](), set[str]()
    for job in jobs:  # what is derived from an input that is made again would else be taken by a job that does not compare them
        if not is_finished(context_for(job)) or (job.name in derived and waiting.intersection(job.needs)):
            waiting.add(job.name)
    for job in reversed(jobs):
        if job.name in waiting and (job.name not in derived or job.name in needed):
            needed |= {job.name, *job.needs}
    return [job for job in jobs if job.name in waiting & needed]


def _begin(jobs: Sequence[Job], names: set[str], context_for: Callable[[Job], JobContext]) -> dict[str, object]:
    """Begin those of `jobs` that wait for nothing but optional artifacts of the jobs `names`; return what they have begun."""
    able = [job for job in jobs if job.begin and not names & (set(job.needs) - set(job.optional))]
    return {job.name: imported(job.begin)(context_for(job), names - {job.name}) for job in able}


def _is_in_process(context: JobContext) -> bool:
    return bool(context.job.in_process) and imported(context.job.in_process)(context)


def _fault(context: JobContext) -> RayleighError | None:
    """Return why later jobs cannot use what the job has made, None if they can."""
    try:
        if context.job.usable:
            imported(context.job.usable)(context)
    except RayleighError as error:
        return error
    return None


def _able(jobs: Sequence[Job], missing: set[str]) -> list[Job]:
    """Return those of `jobs`, in order, that do without the artifacts `missing`; add those that the others would have made."""
    able = []
    for job in jobs:
        without = missing.intersection(job.needs)
        if without and (without == set(job.optional) or not without <= set(job.optional)):
            missing.add(job.name)
        else:
            able.append(job)
    return able


def _run_wave(contexts: Sequence[JobContext]) -> dict[str, Exception]:
    """Run the jobs at the same time; return the failures by the names of their jobs."""
    if len(contexts) == 1:
        try:
            run_job(contexts[0])
        except Exception as error:
            return {contexts[0].job.name: error}
        return {}
    for name in [*(context.job.run.partition(":")[0] for context in contexts), *LAZY]:
        import_module(name)  # here: two threads that import torch at once see each other's half-made modules
    return at_once({context.job.name: partial(run_job, context) for context in contexts})


def _raise_first(failures: Sequence[Exception]) -> None:
    for failure in failures[1:]:
        failures[0].add_note(" ".join(["Another job failed, too:", str(failure), *getattr(failure, "__notes__", [])]))
    if failures:
        raise failures[0]


def run_job(context: JobContext) -> Artifact:
    """Run one job and return its artifact. Removes first what an earlier attempt left behind."""
    identity = identify(context)
    context.writer.clear()
    context.log(f"{context.job.name}: started")
    try:
        row_counts: RowCounts = imported(context.job.run)(context)
        context.writer.warnings += warnings(context, row_counts)
        artifact = context.writer.finish(identity, row_counts)
    except BaseException as error:
        context.writer.abandon()
        error.add_note(f"This ended the job {context.job.name}.")
        context.log(f"{context.job.name}: ended by {type(error).__name__}")  # at once: the others of its wave may take long
        raise
    rows = ", ".join(f"{count} {label}" for label, count in row_counts.rows_out.items() if count)
    context.log(f"{context.job.name}: {artifact.record.seconds:.0f} s, {rows}")
    for warning in artifact.record.warnings:
        context.log(f"WARNING: {warning}")
    return artifact


def warnings(context: JobContext, row_counts: RowCounts) -> list[str]:
    """Return a line for each label of the job's `losses` with more than `warn_above` of the rows."""
    limit = context.contract.warn_above
    rows = row_counts.rows_in - sum(row_counts.rows_out.get(label, 0) for label in context.job.chosen)
    return [
        f"{context.job.name} dropped {count} of {rows} rows ({100 * count / rows:.0f} %) as {label}, more than warn_above "
        f"({100 * limit:g} %). {advice.format(run=context.run)}"
        for label, advice in context.job.losses.items()
        if (count := row_counts.rows_out.get(label, 0)) > limit * rows
    ]


def is_finished(context: JobContext) -> bool:
    """Return whether the job's artifact exists, was made by the recipe of today, and lacks none of its inputs.

    An artifact of an earlier version counts if its recipe differs only in names, or in new keys that have their defaults now.

    Raises:
        RecipeMismatch: it was made by another recipe.
    """
    artifact = load_artifact(context.run / context.job.name)
    if artifact is None:
        return False
    lacks = set(context.job.optional) - artifact.record.inputs.keys()
    try:
        current = identify(context)
    except MissingArtifact:
        return not lacks  # its inputs were removed later
    present = {name: value for name, value in current.inputs.items() if name not in lacks}
    if changed := changes(artifact.record, replace(current, inputs=present), context.job.ignores):
        listed = "\n".join(f"  {change}" for change in changed)
        raise RecipeMismatch(
            f"{context.run}/{context.job.name} was finished under another recipe:\n{listed}\n"
            f"Use a new run folder, or delete {context.run}/{context.job.name} and what was made from it to build it again."
            + _hints(context, artifact, current.recipe)
        )
    return not lacks


def _hints(context: JobContext, artifact: Artifact, current: Json) -> str:
    """Return the job's advice if each path that changed has some, else an empty string."""
    before = recipe_of(artifact.record)
    hints = {context.job.hints.get(path, "") for path in current if before.get(path) != current[path]}
    return "" if "" in hints else "".join(f"\n{hint.format(run=context.run)}" for hint in sorted(hints))
