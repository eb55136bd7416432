"""What a run needs at the same time, held against what the cluster has: Ray waits silently for what can never be placed."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from engine.contract.contract import Contract
from engine.contract.profile import Pool, Profile

Resources = Mapping[str, float]
KINDS = ("CPU", "GPU")
OF_TYPE = "accelerator_type:"  # the prefix of Ray's resource that a node has once for the type of its GPUs


class Wanted(NamedTuple):
    """Equal actors that a job holds at the same time."""

    job: str
    who: str
    """Teacher, judge, ...: with the section of the profile."""
    actors: int
    bundles: Sequence[Resources]
    """What one actor takes; each bundle lies on one node."""
    fewest: int = 1
    """Actors with which the job can go on; a training needs all its workers."""
    section: str = ""
    """Section of the profile, to name in a message."""
    labels: Mapping[str, str] = {}
    """Labels that the node of an actor must have."""

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
            own = profile.teacher_of(teacher.name)
            yield of_pool("candidates", f"teacher {teacher.name}", own, _section(profile, teacher.name))
        judges = contract.judges
        if judges.evidence or judges.keeps_processes or (judges.rubrics and contract.teachers.mode != "direct"):
            yield of_pool("candidates", "judges and checks", profile.judge, "judge")
        if signals := judges.signals:
            scoring = (profile.judge, "judge") if signals.model else (profile.cpu, "cpu")
            yield of_pool("candidates", "signals", *scoring)
        yield of_pool("candidates", "one task", task, "cpu")
    if "dataset" in jobs and contract.curation.semantic:
        yield of_pool("dataset", "embeddings", profile.embedder, "embedder")
        yield of_pool("dataset", "one task", task, "cpu")
    if "capture" in jobs:
        yield from _scoring("capture", captured(contract), profile)
    for student in contract.students:
        pool, section = (
            profile.trainer_of(student.name),
            f"trainers.{student.name}" if student.name in profile.trainers else "trainer",
        )
        if (job := f"students/{student.name}") in jobs:
            yield of_pool(job, f"student {student.name}", pool, section, workers=student.workers)
            scoring = student.on_policy.teacher if student.on_policy else None
            if scoring in profile.teachers:
                yield from _scoring(job, [scoring], profile)
        for export in student.exports:
            if (job := f"exports/{student.name}/{export.name}") in jobs:
                yield of_pool(job, f"export {student.name}.{export.name}", profile.trainer, "trainer", workers=1)
    if "reports" in jobs:
        names = [model.name for model in (*answering, *contract.students)]
        names += [f"{student.name}.{export.name}" for student in contract.students for export in student.exports]
        largest = max(names, key=lambda name: _size(profile.evaluator_of(name)))
        section = f"evaluators.{largest}" if largest in profile.evaluators else "evaluator"
        yield of_pool("reports", "one engine", profile.evaluator_of(largest), section, workers=1)


def captured(contract: Contract) -> list[str]:
    """Return the names of the teachers that score examples, in the order of the contract."""
    chosen = contract.capture.teachers if contract.capture else {}
    return [each.name for each in contract.teachers.models if each.answers and (chosen is None or each.name in chosen)]


def _scoring(job: str, teachers: Sequence[str], profile: Profile) -> Iterator[Wanted]:
    """Yield what teachers hold that score one after the other: of each section of the profile once, and never together."""
    for section, name in {_section(profile, name): name for name in teachers}.items():
        part = job if section == "teacher" else f"{job} by {name}"
        yield of_pool(part, "one teacher after the other", profile.teacher_of(name), section)
        yield of_pool(part, "one task", Pool(cpus=profile.cpu.cpus), "cpu")


def _section(profile: Profile, teacher: str) -> str:
    return f"teachers.{teacher}" if teacher in profile.teachers else "teacher"


def bundles(pool: Pool) -> list[dict[str, float]]:
    """Return the bundles of one actor's placement group: a GPU per worker of its engine; the first also holds the actor's CPUs."""
    gpus = [{"GPU": 1.0, **of_type(pool)} for _ in range(int(pool.gpus) * pool.pipeline)]
    return [{"CPU": pool.cpus, **pool.resources, **gpus[0]}, *gpus[1:]]


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


def of_pool(job: str, who: str, pool: Pool, section: str, workers: int | None = None) -> Wanted:
    """Return what the actors of a pool take; `workers` start together or not at all."""
    parts = bundles(pool) if pool.pipeline > 1 else [{"CPU": pool.cpus, "GPU": pool.gpus, **pool.resources, **of_type(pool)}]
    return Wanted(job, f"{who} ({section})", workers or pool.actors, parts, workers or 1, section, pool.labels)


def of_type(pool: Pool) -> dict[str, float]:
    """Return the resource with which Ray places an actor on GPUs of a type."""
    return {f"{OF_TYPE}{pool.accelerator}": 0.001} if pool.accelerator else {}


def _fits(bundle: Resources, node: Resources) -> bool:
    return all(bundle.get(kind, 0) <= node.get(kind, 0) for kind in KINDS)


def _sum(parts: Sequence[Resources]) -> Resources:
    return {kind: sum(part.get(kind, 0) for part in parts) for kind in KINDS}


def _note(each: Wanted, alone: Sequence[Wanted]) -> str:
    return ", which no single node has" if each in alone else ""


def _text(amounts: Resources) -> str:
    return " and ".join(f"{amount:g} {kind}" for kind, amount in amounts.items() if amount or kind == "CPU")
