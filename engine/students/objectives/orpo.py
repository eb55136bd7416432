"""Odds ratio preference optimisation (Hong et al., "ORPO: monolithic preference optimization without reference model", 2024)."""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from engine.contract.objectives import Orpo
from engine.students.objectives.outputs import PairOutputs

COLUMNS = ("prompt", "chosen", "rejected")
SUREST = -1e-6
"""Largest mean log-probability of a token: the odds of a certain answer are infinite."""


def loss(pairs: PairOutputs, settings: Orpo) -> Tensor:
    """Return the loss of each pair [P] (equation 6): cross entropy of the chosen answer's tokens, and the odds ratio's term."""
    chosen, rejected = pairs.chosen / pairs.chosen_tokens, pairs.rejected / pairs.rejected_tokens
    return -chosen - settings.beta * logsigmoid(log_odds(chosen) - log_odds(rejected))


def log_odds(log_probs: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of mean log-probabilities (Maechler, "Accurately computing log(1 - exp(-|a|))", 2012)."""
    p = log_probs.clamp(max=SUREST)
    return p - torch.where(p > -math.log(2), torch.log(-torch.expm1(p)), torch.log1p(-torch.exp(p)))
