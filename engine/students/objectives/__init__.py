"""Training objectives by the name of their key in `students.*.objectives`; one file each."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch import Tensor

from engine.students.data.pack import Batch
from engine.students.objectives import sft


class Objective(NamedTuple):
    """One loss and its data."""

    columns: tuple[str, ...]
    """Columns of EXAMPLE from which its batches are made."""
    loss: Callable[[Tensor, Batch], Tensor]
    """Takes logits [T, V] (float32) of the T target tokens and their batch; returns the weighted sum over the tokens, in nats.
    The training loop divides by the weight of the whole optimizer step."""


OBJECTIVES = {"sft": Objective(sft.COLUMNS, sft.loss)}


def columns(names: Iterable[str]) -> set[str]:
    """Return the columns of EXAMPLE that the objectives `names` read."""
    return {column for name in names for column in OBJECTIVES[name].columns}
