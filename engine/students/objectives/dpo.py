"""Direct preference optimisation (Rafailov et al., 2023, eq. 7); with label smoothing robust DPO (Chowdhury et al., 2024)."""

from torch import Tensor
from torch.nn.functional import logsigmoid

from engine.contract.objectives import Dpo
from engine.students.objectives.outputs import PairOutputs

COLUMNS = ("prompt", "chosen", "rejected")


def loss(pairs: PairOutputs, settings: Dpo) -> Tensor:
    """Return the loss of each pair [P]. The reference is the initial model."""
    margins = settings.beta * ((pairs.chosen - pairs.reference_chosen) - (pairs.rejected - pairs.reference_rejected))
    noise = settings.label_smoothing
    return -((1 - noise) * logsigmoid(margins) - noise * logsigmoid(-margins)) / (1 - 2 * noise)
