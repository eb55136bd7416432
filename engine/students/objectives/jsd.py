"""Generalised Jensen-Shannon divergence (Agarwal et al., "On-policy distillation of language models", 2024, equation 1)."""

import math

import torch
from torch import Tensor

from engine.contract.objectives import JensenShannon
from engine.students.data.batch import Batch
from engine.students.objectives.outputs import Outputs
from engine.students.objectives.partition import kl, partition

COLUMNS = ("messages", "target", "weight")


def loss(outputs: Outputs, batch: Batch, settings: JensenShannon) -> Tensor:
    """Return beta KL(teacher, m) + (1 - beta) KL(student, m) [T] on the teacher's partition, m = beta teacher + (1 - beta) student.

    Times temperature squared, nats; 0 where the gate is closed.
    """
    assert batch.teacher is not None, "a training with this objective reads a capture"
    student, teacher = partition(outputs.log_probs, batch.teacher, settings.temperature)
    beta, nobody = settings.beta, student.isneginf() & teacher.isneginf()
    shares = student + math.log1p(-beta), teacher + math.log(beta)
    mixture = torch.logaddexp(*(share.masked_fill(nobody, 0.0) for share in shares))
    divergence = beta * kl(teacher, mixture) + (1 - beta) * kl(student, mixture)
    return divergence.masked_fill(~batch.teacher.gate, 0.0) * settings.temperature**2
