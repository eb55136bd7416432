"""The teacher's captured distribution over the target tokens of packed examples, in flat arrays."""

from dataclasses import dataclass

import numpy as np
import torch

from engine.students.data.batch import TeacherTokens


@dataclass(frozen=True)
class Captured:
    """N target tokens of all examples one after the other, in the order of `Packed`; token t has the words
    `ids[starts[t]:starts[t + 1]]`, most likely first."""

    starts: np.ndarray  # int64 [N + 1]
    ids: np.ndarray  # int32
    logprobs: np.ndarray  # float32, nats
    tail: np.ndarray  # float32 [N], log of the mass beyond the words
    gate: np.ndarray  # bool [N], whether the token's distribution is used

    def of_tokens(self, tokens: np.ndarray) -> TeacherTokens:
        """Return the distributions of the target tokens `tokens`, padded to as many words as the longest has (at least 1)."""
        counts = self.starts[tokens + 1] - self.starts[tokens]
        width = max(int(counts.max(initial=1)), 1)
        places = np.arange(width) < counts[:, None]
        flat = (self.starts[tokens][:, None] + np.arange(width))[places]
        ids = np.full(places.shape, -1, np.int64)
        logprobs = np.full(places.shape, -np.inf, np.float32)
        ids[places], logprobs[places] = self.ids[flat], self.logprobs[flat]
        rest = self.tail[tokens], self.gate[tokens]
        return TeacherTokens(*(torch.from_numpy(array) for array in (ids, logprobs, *rest)))
