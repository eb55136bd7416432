"""The teacher's captured distribution over the target tokens of packed examples, in flat arrays."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Captured:
    """N target tokens of all examples one after the other, in the order of `Packed`; token t has the words
    `ids[starts[t]:starts[t + 1]]`, most likely first."""

    starts: np.ndarray  # int64 [N + 1]
    ids: np.ndarray  # int32
    logprobs: np.ndarray  # float32, nats
    tail: np.ndarray  # float32 [N], log of the mass beyond the words
    gate: np.ndarray  # bool [N], whether the token's distribution is used
