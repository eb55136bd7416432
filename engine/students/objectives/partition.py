"""The student's and the teacher's distribution on one partition of the words: the teacher's K words, and all others as one outcome.

A divergence over the K words alone is none: it can be below 0, and a student lowers it by moving mass away from the K words. With
the outcome of all others (the tail) both are distributions, so that each divergence is that of a coarser partition: at least 0, and
at most the one over all words (data-processing inequality, Cover and Thomas, "Elements of information theory", section 2.8).

The student's distribution is not constrained, also where the teacher's was captured under a constraint (then it is normalised over
the allowed words, and what is not allowed has no mass): so the student learns the grammar with the choice within it, and is not
dependent on a constraint at serving. The same mask on both sides would teach nothing about words that the grammar forbids.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engine.students.data.batch import TeacherTokens

FLOOR = math.log(1e-6)
"""Least log-probability of the teacher where the student's mass is compared with none: the divergence would be infinite."""


SMALL = 1e-4
"""Mass of the tail below which 1 less the sum of the words has too few digits, if the teacher's tail has more."""


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
    tails = (teacher.tail > math.log(SMALL)) | (temperature != 1)  # a temperature makes much of little mass
    student = torch.cat(Coarse.apply(log_probs, words, absent, tails), dim=1)  # type: ignore[arg-type]
    closed = ~teacher.gate[:, None]  # their values may be anything, and must be finite: the gradient of 0 times nan is nan
    words_of_teacher, rest = teacher.logprobs.masked_fill(closed, -math.inf), teacher.tail[:, None].masked_fill(closed, 0.0)
    target = torch.cat([words_of_teacher, rest], dim=1).to(log_probs.dtype)
    if temperature != 1:
        student, target = (torch.log_softmax(side / temperature, dim=1) for side in (student, target))
    return Partition(student, target)


class Coarse(torch.autograd.Function):
    """The student's log-probabilities of the words [T, K] (-inf where absent), and the log of the mass of all others [T, 1].

    That mass is 1 less the sum of the words', for which no pass over all V words is needed. Where the student has hardly a tail and
    the teacher has one (`tails`), too few digits are left, and it is summed over the others: the term and its gradient are large.
    Where neither has one, the term is next to 0 whatever the digits.
    """

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, words: Tensor, absent: Tensor, tails: Tensor) -> tuple[Tensor, Tensor]:
        picked = log_probs.gather(1, words).masked_fill(absent, -math.inf)
        rest = 1 - picked.exp().sum(dim=1, keepdim=True)
        is_small = (rest < SMALL).squeeze(1) & tails
        others = log_probs[is_small].scatter(1, words[is_small], -math.inf).logsumexp(dim=1, keepdim=True)
        rest = rest.clamp(min=torch.finfo(rest.dtype).eps).log()
        rest[is_small] = others
        ctx.save_for_backward(log_probs, words, absent, picked, rest, is_small)
        return picked, rest

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        log_probs, words, absent, picked, rest, is_small = ctx.saved_tensors
        of_picked, of_rest = grads[0], grads[1].masked_fill(rest.isneginf(), 0.0)  # -inf: the words are all
        shares = torch.where(is_small[:, None], 0.0, -(picked - rest).exp() * of_rest)
        result = torch.zeros_like(log_probs)
        if is_small.any():
            of_others = (log_probs[is_small] - rest[is_small]).exp_() * of_rest[is_small]
            result[is_small] = of_others.nan_to_num_(0.0).scatter(1, words[is_small], 0.0)
        return result.scatter_add_(1, words, (of_picked + shares).masked_fill(absent, 0.0)), None, None, None


def kl(first: Tensor, second: Tensor) -> Tensor:
    """Return the KL divergence [T] of `second` from `first` (log-probabilities [T, N], nats); no mass in `first` counts nothing."""
    nothing = first.isneginf()
    first, second = first.masked_fill(nothing, 0.0), second.masked_fill(nothing, 0.0)
    return (first.exp() * (first - second)).masked_fill(nothing, 0.0).sum(dim=1)
