"""Supervised fine-tuning: cross entropy of the target tokens. The prompt's tokens are read, not learned."""

from torch import Tensor
from torch.nn.functional import nll_loss

from engine.students.data.batch import Batch
from engine.students.objectives.outputs import Outputs

COLUMNS = ("messages", "target", "weight")


def loss(outputs: Outputs, batch: Batch, settings: None) -> Tensor:
    """Return the cross entropy of each target token [T], nats."""
    return nll_loss(outputs.log_probs, batch.labels, reduction="none")
