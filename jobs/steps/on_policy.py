"""The rounds of a student on its own samples, after its training on examples: `engine/students/on_policy/rounds.py` on Ray."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import ray

from engine.capture.capturer import CaptureSpec
from engine.capture.vocabulary import ending
from engine.contract.budget import ON_POLICY
from engine.contract.capture import Capture
from engine.contract.checks import Check
from engine.contract.models import VllmModel
from engine.contract.on_policy import SELF, SOURCE, OnPolicy
from engine.contract.renames import older_json
from engine.contract.students import PLACEMENT, Student
from engine.contract.teachers import Teacher
from engine.errors import ModelError
from engine.evaluation.size import model_size
from engine.inference.client import ClientSpec
from engine.inference.crash_isolation import MARKERS
from engine.inference.identity import fingerprint, identity
from engine.inference.weights import Weights, described
from engine.records.on_policy import OnPolicyMetrics
from engine.rows import content_id
from engine.runs.job import JobContext
from engine.storage.artifact import Artifact
from engine.storage.folder import Folder
from engine.students import flow
from engine.students.init.tokenizer import key_of
from engine.students.on_policy import rounds
from engine.students.on_policy.questions import Questions, choose
from engine.students.on_policy.rewards import Rewards
from engine.students.on_policy.rollouts import Scored
from engine.students.on_policy.sampler import SamplerSpec
from engine.students.on_policy.store import ROUNDS
from engine.students.training import launch
from engine.students.training.state import RoundSpec, TrainSpec
from jobs.steps import initial_source, trained
from jobs.steps.judging import model_client

SAMPLES, SCORES = "on_policy", "capture"
"""Ledgers: of the student's samples, and of the teacher's distributions, which a capture shares."""
FIRST_IMPORT = threading.Lock()
"""Students start in threads, and the lazy module of transformers breaks if two of them import it first."""
USAGE = "token_usage/students"
"""What the students sampled; under no cap."""


def questions(context: JobContext, student: Student, dataset: Artifact) -> Questions:
    """Return the prompts of all rounds of `student`.

    Raises:
        InputError: the dataset has no prompts to sample.
        ModelError: the run folder is on no file system, from which engines load the student.
    """
    section = _section(student)
    if not context.ledger.is_local:
        raise ModelError(f"{context.ledger}: engines load a student in training from a file system only. Use a run folder on one.")
    with FIRST_IMPORT:
        from transformers import AutoTokenizer  # noqa: F401
    rewards, units = _rewards(context, section), {unit.name for unit in context.contract.specialist.task_units}
    path = f"students.{student.name}.on_policy"
    return choose(dataset, section, seed=student.seed, task_units=rewards.task_units if rewards else units, path=path)


def run(context: JobContext, student: Student, chosen: Questions, start: Path) -> rounds.Outcome:
    """Train `student`, which has its own seed, from the model in the folder `start` on.

    Raises:
        InputError: no sample of the first round has a reward.
        ModelError: student or teacher cannot be loaded, or do not fit each other.
    """
    for ledger in (SAMPLES, SCORES):
        _markers(context, student, ledger).remove()  # crashes of an earlier attempt say nothing about this one
    stages = RayStages(context, student, start)
    plan = rounds.Plan(student.name, _section(student), start, chosen, stages.store, student.batch_size, context.log)
    return rounds.run(plan, stages)


def warnings(student: Student, metrics: OnPolicyMetrics) -> Iterator[str]:
    """Yield why the rounds ended before their number."""
    if metrics.ended_by != "rounds":
        kept = f"the weights of round {metrics.kept}" if metrics.kept else "the weights of the training on examples"
        yield f"student {student.name}: on-policy training ended early ({metrics.ended_by}), and {kept} are kept: {metrics.why}."


@dataclass(frozen=True)
class RayStages:
    """`rounds.Stages` on the pools of the profile."""

    context: JobContext
    student: Student
    start: Path

    @cached_property
    def store(self) -> Folder:
        """Where the rounds are kept, by a hash of all that they depend on."""
        student, context = self.student, self.context
        dataset = context.artifact(context.job.needs[0]).fingerprint
        recipe = older_json(student, "students.*", exclude={"name", "exports", *PLACEMENT})
        teacher = self.teacher and [identity(self.teacher.client.model, self.teacher.client.weights)]
        checks = [check.model_dump_json() for check in _checks(context, _section(student))]
        name = content_id(dataset, recipe, fingerprint(self.start), teacher, checks)
        return Folder((context.ledger / ROUNDS / student.name / name).path)

    def sample(self, model: Path, questions: pa.Table, number: int) -> pa.Table:
        """See `rounds.Stages`."""
        section = _section(self.student)
        client = replace(self._client(model, SAMPLES, self.student.name), cap=None, budget=self.context.ledger / USAGE)
        spec = SamplerSpec(section, client, self.student.seed, number)
        folder, pool = self.store / f"round-{number}/samples", self.context.profile.cpu
        folder.remove()
        return flow.sample(questions, spec, _rewards(self.context, section), folder, pool)

    def score(self, samples: pa.Table, number: int) -> Scored:
        """See `rounds.Stages`."""
        assert self.teacher is not None, "rewards need none"
        folder = self.store / f"round-{number}/scores"
        folder.remove()
        return flow.score(samples, self.teacher, folder, self.context.profile.cpu)

    def train(self, order: RoundSpec) -> Path:
        """See `rounds.Stages`."""
        context = self.context
        data, tokens = (context.artifact(name) for name in context.job.needs[:2])
        spec = TrainSpec(
            student=self.student,
            source=order.start,
            dataset=data.folder.path,
            accelerator=launch.accelerator(context.profile.trainer_of(self.student.name)),
            tokens=tokens.folder.path,
            tokenizer=key_of(tokens, self.student),
            round=order,
        )
        plan = launch.Planned(spec, launch.CheckpointLocation(self.store.path, f"round-{order.number}"))
        with launch.trained([plan], context.profile.trainer_of(self.student.name), context.progress) as [folder]:
            return folder  # on a file system it stays

    def running(self) -> bool:
        """See `rounds.Stages`."""
        return ray.is_initialized()

    @cached_property
    def teacher(self) -> CaptureSpec | None:
        """The teacher that scores; None with rewards."""
        context, section = self.context, _section(self.student)
        if section.teacher is None:
            return None
        capture = Capture(teachers={section.teacher: 1.0}, k=section.k, constraint="none")
        specialist = context.contract.specialist
        if section.teacher not in (SELF, SOURCE):
            asked = trained.asked(
                context.contract.teachers.named(section.teacher), specialist, context.root, context.profile.weights_cache
            )
            client = model_client(context, asked.model, SCORES, payee=ON_POLICY, teacher=section.teacher)
            client = replace(client, markers=_markers(context, self.student, SCORES))
            return CaptureSpec(
                capture, asked.section, asked.specialist, client, systems=asked.systems, ending=ending(described(client.weights))
            )
        place = self.start if section.teacher == SELF else initial_source.place(context, self.student)
        client = self._client(place, SCORES, ON_POLICY, more=VllmModel.model_fields["max_model_len"].default)
        assert isinstance(client.model, VllmModel)
        teacher = Teacher(name=section.teacher, model=client.model, structured=False)
        systems = {unit.name: "\n\n".join(filter(None, (section.instruction, unit.instruction))) for unit in specialist.task_units}
        return CaptureSpec(capture, teacher, specialist, client, systems=systems, ending=ending(described(client.weights)))

    def _client(self, place: Weights, ledger: str, payee: str, *, more: int = 0) -> ClientSpec:
        """Return a client of the model that lies at `place`, which reads the longest example with a sample, and `more` tokens."""
        longest = self.student.max_tokens + _section(self.student).max_tokens + more
        folder = described(place)
        positions = model_size(folder).positions or longest
        model = VllmModel(type="vllm", path=str(folder.resolve()), dtype=self.student.dtype, max_model_len=min(longest, positions))
        client = model_client(self.context, model, ledger, payee=payee)
        return replace(client, weights=place, markers=_markers(self.context, self.student, ledger))


def _markers(context: JobContext, student: Student, ledger: str) -> Folder:
    """Return where in-flight requests are marked: students are trained at the same time."""
    return context.ledger / MARKERS / f"{ON_POLICY}-{ledger}-{student.name}"


def _section(student: Student) -> OnPolicy:
    assert student.on_policy is not None, "only such students come here"
    return student.on_policy


def _checks(context: JobContext, section: OnPolicy) -> list[Check]:
    return [check for check in context.contract.judges.checks if check.title in section.rewards]


def _rewards(context: JobContext, section: OnPolicy) -> Rewards | None:
    if not section.rewards:
        return None
    return Rewards.of(context.contract.judges.checks, section.rewards, context.contract.specialist)
