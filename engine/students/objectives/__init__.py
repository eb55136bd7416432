"""Training objectives by the name of their key in `students.*.objectives`; one file each."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from torch import Tensor

from engine.students.data.batch import Batch
from engine.students.objectives import dpo, forward_kl, hidden, jsd, orpo, process, reverse_kl, sft, simpo, uld
from engine.students.objectives.outputs import Outputs, PairOutputs


class Objective(NamedTuple):
    """One loss over target tokens, and its data."""

    columns: tuple[str, ...]
    """Columns of EXAMPLE from which its batches are made."""
    loss: Callable[[Outputs, Batch, Any], Tensor]
    """Takes the outputs for T target tokens, their batch, and the objective's section of the contract; returns the loss of each
    token [T], nats. LossModule multiplies by the tokens' weights and adds up; the loop divides by the weight of the whole step."""


class PairObjective(NamedTuple):
    """One loss over preference pairs, and its data."""

    columns: tuple[str, ...]
    """Columns of PREFERENCE from which its batches are made."""
    loss: Callable[[PairOutputs, Any], Tensor]
    """Takes the log-probabilities of P pairs and the objective's section; returns the loss of each pair [P]."""


OBJECTIVES = {
    "sft": Objective(sft.COLUMNS, sft.loss),
    "forward_kl": Objective(forward_kl.COLUMNS, forward_kl.loss),
    "reverse_kl": Objective(reverse_kl.COLUMNS, reverse_kl.loss),
    "jsd": Objective(jsd.COLUMNS, jsd.loss),
    "uld": Objective(uld.COLUMNS, uld.loss),
    "hidden": Objective(hidden.COLUMNS, hidden.loss),
    "process": Objective(process.COLUMNS, process.loss),
}
PAIR_OBJECTIVES = {
    "dpo": PairObjective(dpo.COLUMNS, dpo.loss),
    "orpo": PairObjective(orpo.COLUMNS, orpo.loss),
    "simpo": PairObjective(simpo.COLUMNS, simpo.loss),
}


def columns(names: Iterable[str]) -> set[str]:
    """Return the columns of EXAMPLE that the objectives `names` read."""
    return {column for name in names if name in OBJECTIVES for column in OBJECTIVES[name].columns}
