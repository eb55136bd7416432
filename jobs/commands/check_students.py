"""Students in `rayleigh check`: what of a training can be known to fail or to mislead before anything is paid."""

from collections.abc import Iterator

from engine.contract import Contract
from engine.contract.students import Student
from engine.errors import ContractError
from engine.students.on_policy.rewards import Rewards


def verify_students(contract: Contract) -> None:
    """Check that the students will have examples to be validated on.

    Raises:
        ContractError: the contract leaves none.
    """
    if not contract.curation.pick.validation:
        raise ContractError(
            "curation.pick.validation: found 0, expected a share above it: without validation examples no student has a best "
            "model, and its training is refused. The default is 0.1."
        )


def student_line(student: Student) -> str:
    """Return how a student is made, in a line."""
    length = f"{student.max_steps} steps" if student.max_steps else f"{student.epochs} epochs"
    limit = f", at most {student.max_seconds:g} s" if student.max_seconds else ""
    seeds = f", {student.seeds} seeds" if student.seeds > 1 else ""
    chosen = f", best by {student.metric} ({student.decode})" if student.metric != "loss" else ""
    rounds = f", then {student.on_policy.rounds} on-policy rounds ({student.on_policy.objective})" if student.on_policy else ""
    return f"{student.name}: {student.init.summary}, {length}{limit}{seeds}{chosen}{rounds}, ZeRO {student.zero}"


def student_notes(contract: Contract) -> Iterator[str]:
    """Yield what a training may not do as expected."""
    texts = [unit.name for unit in contract.specialist.task_units if unit.output.json_schema is None]
    for student in contract.students:
        if student.metric == "exact_match" and texts:
            yield (
                f"{student.name}: metric exact_match compares the text of {', '.join(texts)} with the teacher's answer, word for "
                "word, as there is no schema: of texts that may be worded in many ways, few are equal; use metric: loss for these"
            )
        if student.on_policy and student.on_policy.rewards:
            rewards = Rewards.of(contract.judges.checks, student.on_policy.rewards, contract.specialist)
            if without := sorted({unit.name for unit in contract.specialist.task_units} - rewards.task_units):
                yield f"{student.name}: on_policy.rewards has no check for {', '.join(without)}, so their prompts are not sampled"
        if student.max_seconds and student.schedule == "cosine":
            yield (
                f"{student.name}: max_seconds may end the cosine of the learning rate before its low end; with schedule: wsd the "
                "rate falls before the time is over"
            )
