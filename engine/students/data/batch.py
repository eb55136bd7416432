"""What one forward pass of one worker reads: examples padded to one length, the teacher's distribution, preference pairs."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from torch import Tensor

from engine.students.data.captured import Captured


class OnDevice:
    """A dataclass of tensors, of further such classes, and of None."""

    def to(self, device: torch.device) -> Self:
        """Return the same on `device`."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))  # type: ignore[arg-type]
        return type(self)(**{name: value if value is None else value.to(device) for name, value in values})


@dataclass(frozen=True)
class TeacherTokens(OnDevice):
    """The teacher's distribution over the T target tokens of a batch: its K most likely tokens, and the mass of all others.

    K is the largest number of tokens that one position of the batch has.
    """

    ids: Tensor  # int64 [T, K], padded with -1
    logprobs: Tensor  # float32 [T, K], nats, -inf where padded
    tail: Tensor  # float32 [T], log of the mass beyond the K
    gate: Tensor  # bool [T], True = use it

    @staticmethod
    def of(captured: Captured, tokens: np.ndarray) -> "TeacherTokens":
        """Return the distributions of the target tokens numbered `tokens` (int64 [T]), K being at least 1."""
        counts = captured.starts[tokens + 1] - captured.starts[tokens]
        places = np.arange(max(int(counts.max(initial=1)), 1)) < counts[:, None]
        flat = (captured.starts[tokens][:, None] + np.arange(places.shape[1]))[places]
        ids, logprobs = np.full(places.shape, -1, np.int64), np.full(places.shape, -np.inf, np.float32)
        ids[places], logprobs[places] = captured.ids[flat], captured.logprobs[flat]
        arrays = ids, logprobs, captured.tail[tokens], captured.gate[tokens]
        return TeacherTokens(*(torch.from_numpy(array) for array in arrays))


@dataclass(frozen=True)
class PolicyTokens(OnDevice):
    """What `grpo` reads of the T sampled tokens of a batch."""

    advantages: Tensor  # float32 [T], of the token's answer within its group
    old: Tensor  # float32 [T], log-probability under the weights with which the round began, nats
    reference: Tensor  # float32 [T], log-probability under the student before the first round, nats


@dataclass(frozen=True)
class Batch(OnDevice):
    """One forward pass of one worker: B examples padded on the right to L tokens, T target tokens in all."""

    ids: Tensor  # int64 [B, L]
    mask: Tensor  # int64 [B, L], 1 where there is a token
    positions: Tensor  # int64 [T], into the flattened [B * L], of the token before each target token
    labels: Tensor  # int64 [T]
    weights: Tensor  # float32 [T]
    teacher: TeacherTokens | None = None
    blends: Tensor | None = None  # int64 [T], which blend of objectives the token's example has; None = all have the same
    rationale: Tensor | None = None  # bool [T], whether the token belongs to the rationale; None = no objective asks
    policy: PolicyTokens | None = None  # None = the examples are no samples
    restarts: Tensor | None = None  # int64 [B, L], position of each token within its example, if examples share rows

    def attention(self) -> dict[str, Tensor]:
        """Return the arguments of a model of transformers that say which tokens attend to which."""
        return {"attention_mask": self.mask} if self.restarts is None else {"position_ids": self.restarts}

    @property
    def owners(self) -> Tensor:
        """The row of `ids` to which each target token belongs, int64 [T]."""
        return self.positions.div(self.ids.shape[1], rounding_mode="floor")


@dataclass(frozen=True)
class PreferenceBatch(OnDevice):
    """P pairs: row i of `sequences` is the chosen answer of pair i, row P + i the rejected one."""

    sequences: Batch
    reference: Tensor  # float32 [2 P], log-probability of each answer under the initial model, nats; 0 before it is captured
    weights: Tensor  # float32 [P]; 0 for a pair of padding
