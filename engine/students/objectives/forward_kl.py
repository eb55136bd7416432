"""Forward KL divergence from the teacher's captured distribution (Hinton et al., "Distilling the knowledge in a network", 2015)."""

from torch import Tensor

from engine.contract.objectives import Divergence
from engine.students.data.batch import Batch
from engine.students.objectives.outputs import Outputs
from engine.students.objectives.partition import kl, partition

COLUMNS = ("messages", "target", "weight")


def loss(outputs: Outputs, batch: Batch, settings: Divergence) -> Tensor:
    """Return KL(teacher, student) [T] on the teacher's partition, times temperature squared, nats; 0 where the gate is closed."""
    assert batch.teacher is not None, "a training with this objective reads a capture"
    student, teacher = partition(outputs.log_probs, batch.teacher, settings.temperature)
    return kl(teacher, student).masked_fill(~batch.teacher.gate, 0.0) * settings.temperature**2
