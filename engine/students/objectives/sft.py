"""Supervised fine-tuning: cross entropy of the target tokens. The prompt's tokens are read, not learned."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from engine.students.data.pack import Batch

COLUMNS = ("messages", "target", "weight")


def loss(logits: Tensor, batch: Batch) -> Tensor:
    """Return the sum over target tokens of cross entropy times the example's weight."""
    return (cross_entropy(logits, batch.labels, reduction="none") * batch.weights).sum()
