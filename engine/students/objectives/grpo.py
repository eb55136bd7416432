"""Group relative policy optimisation (Shao et al., "DeepSeekMath", 2024, section 4.1) of samples that checks have rewarded.

The paper divides a group's rewards by their deviation, and each answer's loss by its length. Liu et al. ("Understanding
R1-Zero-like training", 2025, "Dr. GRPO") show that the first weighs up groups that are almost always right or wrong, and the second
makes wrong answers longer: `scale: false` and `average: token` leave them out.
"""

import numpy as np
import torch
from torch import Tensor

from engine.contract.on_policy import OnPolicy
from engine.students.data.batch import PolicyTokens

LEAST = 1e-4
"""Added to the deviation of a group's rewards, as in TRL."""


def loss(log_probs: Tensor, tokens: PolicyTokens, settings: OnPolicy) -> Tensor:
    """Return the loss of each sampled token [T] (equation 3), `log_probs` being those of the model in training [T], nats.

    The clipped surrogate of PPO (Schulman et al., 2017), and `settings.kl` times the estimate of the KL divergence from the
    reference that is never below 0 (Schulman, "Approximating KL divergence", 2020, k3).
    """
    ratio = torch.exp(log_probs - tokens.old)
    clipped = ratio.clamp(1 - settings.clip, 1 + settings.clip)
    losses = -torch.min(ratio * tokens.advantages, clipped * tokens.advantages)
    if not settings.kl:
        return losses
    difference = tokens.reference - log_probs
    return losses + settings.kl * (torch.exp(difference) - difference - 1)


def advantages(rewards: np.ndarray, *, scale: bool) -> np.ndarray:
    """Return the advantage of each answer, float32 [groups, samples], from `rewards` of the same shape.

    The reward less the mean of its group, and with `scale` divided by the group's standard deviation (over n - 1).
    """
    above = rewards - rewards.mean(axis=1, keepdims=True)
    if scale:
        above = above / (rewards.std(axis=1, ddof=1, keepdims=True) + LEAST)
    return above.astype(np.float32)
