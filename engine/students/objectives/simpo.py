"""Simple preference optimisation with a reference-free reward (Meng et al., "SimPO", 2024, equation 6)."""

from torch import Tensor
from torch.nn.functional import logsigmoid

from engine.contract.objectives import Simpo
from engine.students.objectives.outputs import PairOutputs

COLUMNS = ("prompt", "chosen", "rejected")


def loss(pairs: PairOutputs, settings: Simpo) -> Tensor:
    """Return the loss of each pair [P]: the reward of an answer is beta times the mean log-probability of its tokens."""
    difference = pairs.chosen / pairs.chosen_tokens - pairs.rejected / pairs.rejected_tokens
    margins, noise = settings.beta * difference - settings.gamma, settings.label_smoothing
    return -(1 - noise) * logsigmoid(margins) - noise * logsigmoid(-margins)
