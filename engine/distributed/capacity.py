"""What a run needs at the same time, held against what the cluster has: Ray waits silently for what can never be placed."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from engine.contract.contract import Contract
from engine.contract.profile import Pool, Profile
from engine.contract.students import Student
from engine.contract.teachers import Teacher

Resources = Mapping[str, float]
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
    phase: str = ""
    """Of one job only those of one phase are held at the same time; they stand side by side."""


def wanted(contract: Contract, profile: Profile, jobs: Collection[str]) -> Iterator[Wanted]:
    """Yield what each of `jobs` holds at the same time, job by job.

    Trainings that do not fit wait for each other, as engines of the evaluation do, and models that write prompts: of these only one
    must fit.
    """
    task = Pool(cpus=profile.cpu.cpus)  # one more than the actors, or no row moves
    if "prompts" in jobs and any(synthesis.model for synthesis in contract.prompts.synthesize):
        yield of_pool("prompts", "synthesis", profile.teacher, "teacher")
        yield of_pool("prompts", "one task", task, "cpu")
    if "candidates" in jobs:
        yield from _candidates(contract, profile)
        yield of_pool("candidates", "one task", task, "cpu")
    if "dataset" in jobs and contract.curation.semantic:
        yield of_pool("dataset", "embeddings", profile.embedder, "embedder")
        yield of_pool("dataset", "one task", task, "cpu")
    if "dataset" in jobs and any(material.type == "rewrite" for material in contract.curation.contrastive):
        yield of_pool("dataset", "rewriting", profile.teacher, "teacher")._replace(phase="rewriting")
        yield of_pool("dataset", "one task", task, "cpu")._replace(phase="rewriting")
    if "capture" in jobs:
        yield from _scoring("capture", captured(contract), profile)
    for student in contract.students:
        yield from _student(student, profile, jobs)
    if "reports" in jobs:
        names = [model.name for model in (*_answering(contract), *contract.students)]
        names += [f"{student.name}.{export.name}" for student in contract.students for export in student.exports]
        largest = max(names, key=lambda name: _size(profile.evaluator_of(name)))
        section = f"evaluators.{largest}" if largest in profile.evaluators else "evaluator"
        yield of_pool("reports", "one engine", profile.evaluator_of(largest), section, workers=1)


def captured(contract: Contract) -> list[str]:
    """Return the names of the teachers that score examples, in the order of the contract."""
    chosen = contract.capture.teachers if contract.capture else {}
    return [each.name for each in _answering(contract) if chosen is None or each.name in chosen]


def _scoring(job: str, teachers: Sequence[str], profile: Profile) -> Iterator[Wanted]:
    """Yield what teachers hold that score one after the other: of each section of the profile once."""
    for section, name in {_teacher_pool(name, profile)[1]: name for name in teachers}.items():
        scoring = of_pool(job, "one teacher after the other", profile.teacher_of(name), section)
        task = of_pool(job, "one task", Pool(cpus=profile.cpu.cpus), "cpu")
        yield from (one._replace(phase=section) for one in (scoring, task))


def _answering(contract: Contract) -> list[Teacher]:
    return [teacher for teacher in contract.teachers.models if teacher.answers]


def _candidates(contract: Contract, profile: Profile) -> Iterator[Wanted]:
    """Yield the actors of the job `candidates`, which all work at the same time."""
    judges = contract.judges
    if any(route.nearest for route in contract.teachers.routes or ()):
        yield of_pool("candidates", "routes to teachers", profile.embedder, "embedder")
    for teacher in _answering(contract):
        yield of_pool("candidates", f"teacher {teacher.name}", *_teacher_pool(teacher.name, profile))
    if judges.evidence or judges.keeps_processes or (judges.rubrics and contract.teachers.mode != "direct"):
        yield of_pool("candidates", "judges and checks", profile.judge, "judge")
    if signals := judges.signals:
        scoring = (profile.judge, "judge") if signals.model else (profile.cpu, "cpu")
        yield of_pool("candidates", "signals", *scoring)


def _student(student: Student, profile: Profile, jobs: Collection[str]) -> Iterator[Wanted]:
    """Yield what the training of `student` holds, its on-policy rounds, which need each at least by itself, and its exports."""
    section = f"trainers.{student.name}" if student.name in profile.trainers else "trainer"
    if (job := f"students/{student.name}") in jobs:
        yield of_pool(job, f"student {student.name}", profile.trainer_of(student.name), section, workers=student.workers)
        if rounds := student.on_policy:
            task = of_pool(job, "one task", Pool(cpus=profile.cpu.cpus), "cpu")
            sampling = of_pool(job, "samples of its rounds", profile.teacher, "teacher")
            yield from (one._replace(phase="samples") for one in (sampling, task))
            if rounds.teacher:
                scoring = of_pool(job, "scores of its rounds", *_teacher_pool(rounds.teacher, profile))
                yield from (one._replace(phase="scores") for one in (scoring, task))
    for export in student.exports:
        if (job := f"exports/{student.name}/{export.name}") in jobs:
            yield of_pool(job, f"export {student.name}.{export.name}", profile.trainer, "trainer", workers=1)


def _teacher_pool(name: str, profile: Profile) -> tuple[Pool, str]:
    """Return the pool of a teacher, and its section of the profile."""
    return profile.teacher_of(name), f"teachers.{name}" if name in profile.teachers else "teacher"


def bundles(pool: Pool) -> list[dict[str, float]]:
    """Return the bundles of one actor's placement group: a GPU per worker of its engine; the first also holds the actor's CPUs."""
    gpus = [{"GPU": 1.0, **of_type(pool)} for _ in range(int(pool.gpus) * pool.pipeline)]
    return [{"CPU": pool.cpus, **pool.resources, **gpus[0]}, *gpus[1:]]


def _size(pool: Pool) -> tuple[float, float]:
    return pool.gpus * pool.pipeline, pool.cpus


def of_pool(job: str, who: str, pool: Pool, section: str, workers: int | None = None) -> Wanted:
    """Return what the actors of a pool take; `workers` start together or not at all."""
    parts = bundles(pool) if pool.pipeline > 1 else [{"CPU": pool.cpus, "GPU": pool.gpus, **pool.resources, **of_type(pool)}]
    return Wanted(job, f"{who} ({section})", workers or pool.actors, parts, workers or 1, section, pool.labels)


def of_type(pool: Pool) -> dict[str, float]:
    """Return the resource with which Ray places an actor on GPUs of a type."""
    return {f"{OF_TYPE}{pool.accelerator}": 0.001} if pool.accelerator else {}
