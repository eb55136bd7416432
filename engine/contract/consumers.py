"""All consumers of paid models in a contract: who asks which model, in which job, and under which cap.

`rayleigh plan` lists their expected tokens, `rayleigh check` looks for their weights and keys. A new consumer belongs here.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from engine.contract.budget import CAPTURE, EVIDENCE, ON_POLICY, REPAIR, SIGNALS, SYNTHESIS
from engine.contract.contract import Contract
from engine.contract.models import Model, TeacherModel


class Consumer(NamedTuple):
    """One use of a paid model."""

    kind: Literal["synthesis", "teacher", "judge", "signals", "repair", "capture", "on_policy", "evidence"]
    payee: str
    """Name under which its token usage is noted; several uses may share one."""
    path: str
    """Where the contract gives its model."""
    model: Model | TeacherModel
    job: str
    cap: Literal["teacher_tokens", "judge_tokens"]
    """Key of the section `budget` that limits it."""


def consumers(contract: Contract) -> Iterator[Consumer]:
    """Yield the consumers of `contract` in the order of the pipeline."""
    for number, synthesis in enumerate(contract.prompts.synthesize):
        if synthesis.model:
            path = f"prompts.synthesize.{number}.model"
            yield Consumer("synthesis", SYNTHESIS, path, synthesis.model, "prompts", "teacher_tokens")
    for number, teacher in enumerate(contract.teachers.models):
        if teacher.answers:
            path = f"teachers.models.{number}.model"
            yield Consumer("teacher", teacher.name, path, teacher.model, "candidates", "teacher_tokens")
    if contract.teachers.mode != "direct":
        for number, rubric in enumerate(contract.judges.rubrics):
            path = f"judges.rubrics.{number}.model"
            yield Consumer("judge", rubric.name, path, rubric.model, "candidates", "judge_tokens")
    yield from _evidence(contract)
    if contract.judges.signals and contract.judges.signals.model:
        yield Consumer("signals", SIGNALS, "judges.signals.model", contract.judges.signals.model, "candidates", "judge_tokens")
    for number, material in enumerate(contract.curation.contrastive):
        if material.type == "rewrite":
            yield Consumer("repair", REPAIR, f"curation.contrastive.{number}.model", material.model, "dataset", "teacher_tokens")
    for number, teacher in enumerate(contract.teachers.models):
        if contract.capture and (contract.capture.teachers is None or teacher.name in contract.capture.teachers):
            yield Consumer("capture", CAPTURE, f"teachers.models.{number}.model", teacher.model, "capture", "teacher_tokens")
    scoring = {student.on_policy.teacher for student in contract.students if student.on_policy}
    for number, teacher in enumerate(contract.teachers.models):
        if teacher.name in scoring:
            yield Consumer("on_policy", ON_POLICY, f"teachers.models.{number}.model", teacher.model, "students", "teacher_tokens")


def _evidence(contract: Contract) -> Iterator[Consumer]:
    """Yield the readers of answers, and the teachers that read labelled items."""
    evidence = contract.judges.evidence
    if evidence is None:
        return
    for number, reader in enumerate(evidence.readers):
        yield Consumer(
            "evidence", reader.name, f"judges.evidence.readers.{number}.model", reader.model, "candidates", "judge_tokens"
        )
    if evidence.reads:
        for number, teacher in enumerate(contract.teachers.models):
            if teacher.answers:
                yield Consumer("evidence", EVIDENCE, f"teachers.models.{number}.model", teacher.model, "candidates", "judge_tokens")
