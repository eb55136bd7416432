"""The student's and the teacher's distribution on one partition of the words: the teacher's K words, and all others as one outcome.

A divergence over the K words alone is none: it can be below 0, and a student lowers it by moving mass away from the K words. With
the outcome of all others (the tail) both are distributions, so that each divergence is that of a coarser partition: at least 0, and
at most the one over all words (data-processing inequality, Cover and Thomas, "Elements of information theory", section 2.8).

The student's distribution is not constrained, also where the teacher's was captured under a constraint (then it is normalised over
the allowed words, and what is not allowed has no mass): so the student learns the grammar with the choice within it, and is not
dependent on a constraint at serving. The same mask on both sides would teach nothing about words that the grammar forbids.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from engine.students.data.batch import TeacherTokens

FLOOR = math.log(1e-6)
"""Least log-probability of the teacher where the student's mass is compared with none: the divergence would be infinite."""


class Partition(NamedTuple):
    """Two distributions over K + 1 outcomes, the last one is the tail: log-probabilities [T, K + 1], nats; -inf = no mass."""

    student: Tensor
    teacher: Tensor


def partition(log_probs: Tensor, teacher: TeacherTokens, temperature: float = 1.0) -> Partition:
    """Return both distributions, `log_probs` [T, V] being the student's.

    A temperature is applied to the outcomes: the tail counts as one word. Without a tail (K = V) that is the usual temperature.
    """
    absent = teacher.ids < 0
    words = torch.where(absent, teacher.ids[:, :1], teacher.ids).clamp(min=0)
    picked = log_probs.gather(1, words).masked_fill(absent, -math.inf)
    student = torch.cat([picked, _others(log_probs, words, absent)], dim=1)
    closed = ~teacher.gate[:, None]  # their values may be anything, and must be finite: the gradient of 0 times nan is nan
    words_of_teacher, rest = teacher.logprobs.masked_fill(closed, -math.inf), teacher.tail[:, None].masked_fill(closed, 0.0)
    target = torch.cat([words_of_teacher, rest], dim=1).to(log_probs.dtype)
    if temperature != 1:
        student, target = (torch.log_softmax(side / temperature, dim=1) for side in (student, target))
    return Partition(student, target)


def _others(log_probs: Tensor, words: Tensor, absent: Tensor) -> Tensor:
    """Return the log of the mass [T, 1] beyond `words`; summed, as 1 less the sum of `words` has no digits where it is small."""
    is_whole = (~absent).sum(dim=1, keepdim=True) >= log_probs.shape[1]  # nothing is left
    others = log_probs.scatter(1, words, -math.inf).masked_fill(is_whole, 0.0)
    return others.logsumexp(dim=1, keepdim=True).masked_fill(is_whole, -math.inf)


def kl(first: Tensor, second: Tensor) -> Tensor:
    """Return the KL divergence [T] of `second` from `first` (log-probabilities [T, N], nats); no mass in `first` counts nothing."""
    nothing = first.isneginf()
    first, second = first.masked_fill(nothing, 0.0), second.masked_fill(nothing, 0.0)
    return (first.exp() * (first - second)).masked_fill(nothing, 0.0).sum(dim=1)
