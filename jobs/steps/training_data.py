"""What of a training is known from its examples before it begins: whether some are left, and how many steps they are."""

from collections.abc import Iterator
from pathlib import Path

from engine.contract.objectives import CAPTURED
from engine.contract.students import Student
from engine.errors import InputError
from engine.records.student import TrainingSetup
from engine.records.tokens import TokensMetrics
from engine.rows import PREFERENCE
from engine.storage.artifact import Artifact
from engine.students.data import flat
from engine.students.init.prune import count_positions
from engine.students.init.source import LEAST_TOKENS, check_shrink
from engine.students.init.tokenizer import description, key_of
from engine.students.training.setup import check_split, reach
from engine.students.training.state import SPLITS

LEAST_COVERED = 0.5  # of a split's target tokens: below it, a student hardly learns from the distributions that were paid


def check(student: Student, source: Path, dataset: Artifact, tokens: Artifact) -> list[str]:
    """Return warnings about settings of `student` that are larger than its data; it begins with the model in the folder `source`.

    Raises:
        InputError: a split has no example that can be learned, an example is longer than the model reads, or the learning rate
            would still rise when the training ends.
        ModelError: with its trimmed vocabulary the model cannot be cut to as few parameters as are ordered.
    """
    if student.init.shrink and student.init.vocabulary:
        summary = tokens.metrics(TokensMetrics).of(description(student))
        check_shrink(source, student, summary.words if summary else LEAST_TOKENS)
    if student.objectives.reads_examples:
        found = flat.counts(tokens, key_of(tokens, student), max_tokens=student.max_tokens)
        for split in SPLITS:
            check_split(split, found.get(split, flat.Counts()), student)
        _check_positions(student, source, max(each.longest for each in found.values()))
        rows, what = found["train"].kept, "training examples"
    else:  # how many pairs are too long is known once they are tokenised
        splits = dataset.read("preferences", PREFERENCE, ["split"])["split"].to_pylist()
        rows, what = splits.count("train"), "pairs for training"
    steps = student.max_steps or -(-rows // student.batch_size) * student.epochs
    if student.warmup_steps is not None and student.warmup_steps >= steps:
        raise InputError(
            f"students.{student.name}.warmup_steps: found {student.warmup_steps}, expected less than the {steps} steps of the "
            f"training ({rows} {what}): the learning rate would never be reached. Lower it, or use warmup_ratio."
        )
    return list(_warnings(student, rows, what, steps))


def uncovered(student: Student, setup: TrainingSetup, capture: Artifact, key: str) -> list[str]:
    """Return a warning for each split of which a capture covers less than half; `key` is the student's tokenizer in `tokens`."""
    return [
        f"student {student.name}: the teacher's distribution is used at {share:.1%} of the target tokens of the {split} split, at "
        f"the others {', '.join(name for name in CAPTURED if name in student.objectives.active)} is 0: {reach(capture, key)}"
        for split, share in setup.covered.items()
        if share < LEAST_COVERED
    ]


def _check_positions(student: Student, source: Path, longest: int) -> None:
    most = count_positions(source)
    if most is not None and longest > most:
        raise InputError(
            f"students.{student.name}.max_tokens: found {student.max_tokens}, with which an example has {longest} tokens, expected "
            f"at most {most}, the longest text that the model in {source} reads. Longer examples are left out and counted."
        )


def _warnings(student: Student, rows: int, what: str, steps: int) -> Iterator[str]:
    path = f"students.{student.name}"
    if student.batch_size > rows:
        yield f"{path}.batch_size: {student.batch_size} is more than the {rows} {what}: each step reads all of them."
    if (student.validate_steps or 0) > steps:
        yield (
            f"{path}.validate_steps: {student.validate_steps} is more than the {steps} steps of the training: there is one "
            "validation, after the last step."
        )
