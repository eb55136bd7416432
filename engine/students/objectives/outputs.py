"""What objectives read of one forward pass. The log-softmax is computed once; all objectives of a step share it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Outputs:
    """One forward pass over T target tokens, V words."""

    log_probs: Tensor  # float32 [T, V], nats
    states: tuple[tuple[Tensor, Tensor], ...] = ()  # (student's [T, H], teacher's [T, H]) of each pair of layers, for `hidden`
    epoch: int = 0  # from 0
    epochs: int = 1  # of the whole training


@dataclass(frozen=True)
class PairOutputs:
    """Log-probabilities of P pairs of answers, each summed over its tokens, nats. All float32 [P]."""

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
