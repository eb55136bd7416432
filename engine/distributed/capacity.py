"""What a run needs at the same time, held against what the cluster has: Ray waits silently for what can never be placed."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from engine.contract import Contract, Profile
from engine.contract.profile import Pool

Resources = Mapping[str, float]
KINDS = ("CPU", "GPU")


class Wanted(NamedTuple):
    """Equal actors that a job holds at the same time."""

    job: str
    who: str
    """Teacher, judge, ...: with the section of the profile."""
    actors: int
    bundles: Sequence[Resources]
    """What one actor takes; each bundle lies on one node."""

    def total(self, kind: str) -> float:
        """Return how much of `kind` all the actors take."""
        return self.actors * sum(bundle.get(kind, 0) for bundle in self.bundles)


def wanted(contract: Contract, profile: Profile, jobs: Collection[str]) -> Iterator[Wanted]:
    """Yield what each of `jobs` holds at the same time, job by job.

    Trainings that do not fit wait for each other, as engines of the evaluation do: of these only one must fit.
    """
    task = Pool(cpus=profile.cpu.cpus)  # one more than the actors, or no row moves
    answering = [teacher for teacher in contract.teachers.models if teacher.answers]
    if "candidates" in jobs:
        for teacher in answering:
            yield _wanted("candidates", f"teacher {teacher.name} (teacher)", profile.teacher)
        yield _wanted("candidates", "judges and checks (judge)", profile.judge)
        yield _wanted("candidates", "one task (cpu)", task)
    if "dataset" in jobs and contract.curation.semantic:
        yield _wanted("dataset", "embeddings (embedder)", profile.embedder)
        yield _wanted("dataset", "one task (cpu)", task)
    if "capture" in jobs:
        yield _wanted("capture", "one teacher after the other (teacher)", profile.teacher)
        yield _wanted("capture", "one task (cpu)", task)
    for student in contract.students:
        if (job := f"students/{student.name}") in jobs:
            yield _wanted(job, f"student {student.name} (trainer)", profile.trainer, actors=student.workers)
        for export in student.exports:
            if (job := f"exports/{student.name}/{export.name}") in jobs:
                yield _wanted(job, f"export {student.name}.{export.name} (trainer)", profile.trainer, actors=1)
    if "reports" in jobs:
        names = [model.name for model in (*answering, *contract.students)]
        names += [f"{student.name}.{export.name}" for student in contract.students for export in student.exports]
        largest = max(names, key=lambda name: _size(profile.evaluator_of(name)))
        section = f"evaluators.{largest}" if largest in profile.evaluators else "evaluator"
        yield _wanted("reports", f"one engine ({section})", profile.evaluator_of(largest), actors=1)


def bundles(pool: Pool) -> list[dict[str, float]]:
    """Return the bundles of one actor's placement group: a GPU per worker of its engine; the first also holds the actor's CPUs."""
    gpus = [{"GPU": 1.0} for _ in range(int(pool.gpus) * pool.pipeline)]
    return [{"CPU": pool.cpus, **gpus[0]}, *gpus[1:]]


def shortfalls(wants: Sequence[Wanted], nodes: Sequence[Resources]) -> list[str]:
    """Return a table of what the jobs want and the cluster has, for each job that can never be placed on `nodes`."""
    lines: list[str] = []
    for job, group in groupby(wants, key=lambda each: each.job):
        each_job = list(group)
        has = {kind: sum(node.get(kind, 0) for node in nodes) for kind in KINDS}
        needs = {kind: sum(each.total(kind) for each in each_job) for kind in KINDS}
        alone = [each for each in each_job for bundle in each.bundles if not any(_fits(bundle, node) for node in nodes)]
        if alone or any(needs[kind] > has[kind] for kind in KINDS):
            lines += [f"{job} needs {_text(needs)} at the same time; the cluster has {_text(has)}:"]
            lines += [f"  {each.who}: {each.actors} x {_text(_sum(each.bundles))}{_note(each, alone)}" for each in each_job]
    return lines


def _size(pool: Pool) -> tuple[float, float]:
    return pool.gpus * pool.pipeline, pool.cpus


def _wanted(job: str, who: str, pool: Pool, actors: int | None = None) -> Wanted:
    whole = [{"CPU": pool.cpus, "GPU": pool.gpus}]
    return Wanted(job, who, actors or pool.actors, bundles(pool) if pool.pipeline > 1 else whole)


def _fits(bundle: Resources, node: Resources) -> bool:
    return all(bundle.get(kind, 0) <= node.get(kind, 0) for kind in KINDS)


def _sum(parts: Sequence[Resources]) -> Resources:
    return {kind: sum(part.get(kind, 0) for part in parts) for kind in KINDS}


def _note(each: Wanted, alone: Sequence[Wanted]) -> str:
    return ", which no single node has" if each in alone else ""


def _text(amounts: Resources) -> str:
    return " and ".join(f"{amount:g} {kind}" for kind, amount in amounts.items() if amount or kind == "CPU")
