"""The contracts that `rayleigh bench recipe` compares, and the trainings that they order: equal students are trained once."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from engine.contract.contract import Contract
from engine.contract.load import load_contract
from engine.contract.renames import older_json
from engine.contract.students import PLACEMENT, Student
from engine.errors import ContractError, InputError
from engine.rows import content_id
from engine.runs.recipe import changes, identify
from engine.storage.artifact import load_artifact
from engine.students.init.tokenizer import description
from jobs.pipeline import pipeline
from jobs.workspace import Workspace

LABEL = re.compile(r"[a-z0-9][a-z0-9_-]*")
EXAMPLES = ("prompts", "candidates", "dataset")
"""Jobs on which the examples depend."""
UNNAMED = {"name", "seed", "seeds", "keep_seeds", "exports", *PLACEMENT}
"""Keys of a student that do not change what one training with a given seed learns."""
HASH_DIGITS = 8


class Variant(NamedTuple):
    """A contract that is compared, by its label."""

    label: str
    contract: Contract
    root: str
    """Folder from which its relative paths start."""


class Trained(NamedTuple):
    """A student of a variant with one training seed."""

    group: str
    """Trainings with the same tokenizer, and the same capture if they read one, share these artifacts."""
    student: Student
    """Its name is `STUDENT-HASH-SEED`: the hash covers its section, so that equal students of several contracts are one."""
    variant: Variant

    @property
    def contract(self) -> Contract:
        """The contract of its variant with this student alone, and without a capture that it does not read."""
        capture = self.variant.contract.capture if self.student.objectives.reads_capture else None
        return self.variant.contract.model_copy(update={"students": (self.student,), "capture": capture})


def variants(contracts: Sequence[str], sets: Sequence[str]) -> list[Variant]:
    """Return the variants of `[LABEL=]FILE`; a change of `sets` is `A.B=VALUE`, for all, or `LABEL:A.B=VALUE`.

    Raises:
        ContractError: two labels are equal, a change names a label that is none, or a contract cannot be used as written.
    """
    files = [_labelled(each) for each in contracts]
    labels = [label for label, _ in files]
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise ContractError(
            f"--contract: found {repeated[0]!r} twice, expected a label of its own for each: --contract LABEL=FILE."
        )
    changes_of: dict[str, list[str]] = {label: [] for label in labels}
    for change in sets:
        label, colon, _ = change.partition("=")[0].partition(":")
        if colon and label not in changes_of:
            raise ContractError(f"--set {change}: found the label {label!r}, expected one of {', '.join(labels)}.")
        for each in [label] if colon else labels:
            changes_of[each].append(change[len(label) + 1 :] if colon else change)
    loaded = [(label, load_contract(Path(path), changes_of[label])) for label, path in files]
    return [Variant(label, each.contract, each.root) for label, each in loaded]


def _labelled(contract: str) -> tuple[str, str]:
    label, equals, path = contract.partition("=")
    if equals and LABEL.fullmatch(label):
        return label, path
    return Path(contract).stem, contract


def require_same_examples(run: Workspace, variant: Variant) -> None:
    """Raise InputError if the examples of `run` would be other ones under the contract of `variant`."""
    ordered = [job for job in pipeline(variant.contract) if job.name in EXAMPLES]
    found = []
    for job in ordered:
        artifact = load_artifact(run.folder / job.name)
        if artifact is not None:
            work = replace(run, contract=variant.contract, root=variant.root)
            context = work.context(job, log=lambda line: None, progress=lambda line: None)
            found += [change for change in changes(artifact.record, identify(context), job.ignores) if change not in found]
    if found:
        listed = "\n".join(f"  {change}" for change in found)
        raise InputError(
            f"--contract {variant.label}: it orders other examples than {run.folder} has:\n{listed}\n"
            "Only `students` and `capture` may differ. For other examples make another run, and compare in another folder."
        )


def students(variants: Sequence[Variant], names: Sequence[str]) -> list[str]:
    """Return the names of the students that are compared: `names`, or all of the first contract.

    Raises:
        InputError: a contract has no such student.
    """
    chosen = list(dict.fromkeys(names)) or [student.name for student in variants[0].contract.students]
    for variant in variants:
        known = [student.name for student in variant.contract.students]
        for name in chosen:
            if name not in known:
                raise InputError(f"--student: found {name!r}, but the contract {variant.label} has {', '.join(known)}.")
    return chosen


def trained(variant: Variant, name: str, seed: int) -> Trained:
    """Return the student `name` of a variant as it is trained with `seed`."""
    student = variant.contract.student(name)
    digest = content_id(older_json(student, "students.*", exclude=UNNAMED), _capture(variant, student))[:HASH_DIGITS]
    update = {"name": f"{name[:20]}-{digest}-{seed}", "seed": seed, "seeds": 1, "keep_seeds": False, "exports": ()}
    group = content_id(description(student), _capture(variant, student))[:HASH_DIGITS]
    return Trained(group, student.model_copy(update=update), variant)


def _capture(variant: Variant, student: Student) -> str:
    capture = variant.contract.capture
    return capture.model_dump_json() if capture and student.objectives.reads_capture else ""
