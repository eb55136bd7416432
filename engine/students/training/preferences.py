"""Preference pairs of a training: their share of each step, their validation, and the reference's log-probabilities.

Every optimizer step has its share of the pairs beside its batch of examples, so that an epoch shows every pair once. Which ones
follows from seed, epoch and step. Without an objective that reads examples, the batches of an epoch are of pairs themselves.
The reference is the initial model: its log-probabilities are computed once, before the first step, and every checkpoint has them.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.contract.students import Student
from engine.errors import InputError
from engine.storage.artifact import Artifact
from engine.students.data import pairs
from engine.students.data.pack import Packed
from engine.students.data.pairs import PackedPairs, pairs_of_step

FILE = "reference.npz"
MAKE_PAIRS = (
    "Pairs are made by curation.preferences, of an accepted answer and a rejected one to the same prompt: name more pools in "
    "`rejected`, lower its `margin`, raise its `length_ratio`, or ask the teachers for more samples; then delete the dataset and "
    "run again."
)


@dataclass
class Preferences:
    """The pairs of each split."""

    splits: dict[str, PackedPairs]
    is_alone: bool
    """Whether no objective reads examples."""
    reference: dict[str, np.ndarray] = field(default_factory=dict)
    """Split -> log-probability of each sequence under the initial model, float32 [2 pairs], nats."""

    @property
    def chosen(self) -> dict[str, Packed]:
        """The chosen answers of each split, which stand for their pairs where no objective reads examples."""
        return {name: pairs.chosen for name, pairs in self.splits.items()}

    def of_step(self, step: int, steps: int, seed: int) -> np.ndarray:
        """Return the pairs of step `step` of a training whose epochs have `steps` steps."""
        return pairs_of_step(len(self.splits["train"]), step=step % steps, steps=steps, seed=seed, epoch=step // steps)

    def save(self, folder: Path) -> None:
        """Write the reference into the checkpoint `folder`."""
        np.savez(folder / FILE, **self.reference)  # type: ignore[arg-type]

    def restore(self, folder: Path) -> None:
        """Read what `save` wrote."""
        with np.load(folder / FILE) as saved:
            self.reference = {name: saved[name] for name in self.splits}


def load(dataset: Artifact, key: str, tokenizer: Any, student: Student, *, home: Path | None = None) -> Preferences:
    """Return the pairs of the artifact `dataset`; see `pairs.load`.

    Raises:
        InputError: a split has none that can be learned.
    """
    packed = {}
    for name in ("train", "validation"):
        packed[name] = pairs.load(dataset, key, tokenizer, split=name, max_tokens=student.max_tokens, home=home)
        audit = packed[name].audit
        if not len(packed[name]):
            raise InputError(
                f"student {student.name}: no {name} pair is left for {', '.join(student.objectives.active)}: of "
                f"{audit.too_long + audit.equal} pairs {audit.too_long} are longer than students.{student.name}.max_tokens, "
                f"{student.max_tokens}, and {audit.equal} have two equal answers. {MAKE_PAIRS}"
            )
    return Preferences(packed, is_alone=not student.objectives.reads_examples)
