"""Reverse KL divergence from the teacher's captured distribution (Gu et al., "MiniLLM", 2024), over the stored answer's tokens."""

from torch import Tensor

from engine.contract.objectives import Divergence
from engine.students.data.batch import Batch
from engine.students.objectives.outputs import Outputs
from engine.students.objectives.partition import FLOOR, kl, partition

COLUMNS = ("messages", "target", "weight")


def loss(outputs: Outputs, batch: Batch, settings: Divergence) -> Tensor:
    """Return KL(student, teacher) [T] on the teacher's partition, times temperature squared, nats; 0 where the gate is closed.

    Where the teacher has no mass (the tail of a constrained capture), its log-probability counts as FLOOR.
    """
    assert batch.teacher is not None, "a training with this objective reads a capture"
    student, teacher = partition(outputs.log_probs, batch.teacher, settings.temperature)
    return (
        kl(student, teacher.masked_fill(teacher.isneginf(), FLOOR)).masked_fill(~batch.teacher.gate, 0.0) * settings.temperature**2
    )
