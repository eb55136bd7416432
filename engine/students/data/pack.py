"""Token ids of examples in one flat array, and batches of examples of similar length.

Only the target's tokens are learned. The order of batches depends on seed and epoch alone, so that a resumed run gets the same
batches as an unbroken one.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from engine.students.data.rows import one_each, shared

WINDOW = 8  # batches within which examples are sorted by length: long enough to save padding, short enough to stay random


@dataclass(frozen=True)
class Packed:
    """Examples of one split. Example i is `ids[starts[i]:starts[i + 1]]`; its target begins at offset `targets[i]` of those."""

    ids: np.ndarray  # int32, all examples one after the other; mapped from a file that all workers of a node share
    starts: np.ndarray  # int64, one more than there are examples
    targets: np.ndarray  # int32
    weights: np.ndarray  # float32
    stages: np.ndarray  # int32: lower ones come first in an epoch (Bengio et al., "Curriculum learning", 2009)
    too_long: int  # examples that were left out
    example_ids: np.ndarray = field(default_factory=lambda: np.empty(0, "S1"))  # ASCII
    kinds: np.ndarray = field(default_factory=lambda: np.empty(0, np.int8))  # index into rows.KINDS; -1 = another one
    tiers: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))  # confidence_tier; flat.LAST = none
    span_starts: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))  # of example i: spans[starts[i]:starts[i + 1]]
    spans: np.ndarray = field(default_factory=lambda: np.empty((0, 3), np.int32))  # index into SPAN_KINDS, first token, end

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example."""
        return np.diff(self.starts)

    @property
    def learned(self) -> np.ndarray:
        """Target tokens of each example."""
        return self.lengths - self.targets

    def weight(self, rows: np.ndarray) -> float:
        """Return the weighted number of target tokens of the examples `rows`; -1 counts nothing."""
        rows = rows[rows >= 0]
        return float((self.weights[rows].astype(np.float64) * self.learned[rows]).sum())


@dataclass(frozen=True)
class Batch:
    """One forward pass of one worker: B examples padded on the right to L tokens, T target tokens in all."""

    ids: torch.Tensor  # int64 [B, L]
    mask: torch.Tensor  # int64 [B, L], 1 where there is a token
    positions: torch.Tensor  # int64 [T], into the flattened [B * L], of the token before each target token
    labels: torch.Tensor  # int64 [T]
    weights: torch.Tensor  # float32 [T]
    restarts: torch.Tensor | None = None  # int64 [B, L], position of each token within its example, if examples share rows

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on `device`."""
        fields: list[Any] = [getattr(self, name) for name in self.__dataclass_fields__]
        return Batch(*(each if each is None else each.to(device) for each in fields))

    def attention(self) -> dict[str, torch.Tensor]:
        """Return the arguments of a model of transformers that say which tokens attend to which."""
        return {"attention_mask": self.mask} if self.restarts is None else {"position_ids": self.restarts}


def epoch_batches(packed: Packed, *, size: int, seed: int, epoch: int) -> np.ndarray:
    """Return the batches of one epoch as indices of examples [batches, size]; -1 pads the last one.

    Stages come one after the other, shuffled within; a batch of two stages counts as the later one.
    """
    rng = np.random.default_rng((seed, epoch))
    rows = rng.permutation(len(packed))
    rows = rows[np.argsort(packed.stages[rows], kind="stable")]
    window = size * WINDOW
    lengths = packed.lengths
    windows = [rows[start : start + window] for start in range(0, len(rows), window)]
    sorted_ = [piece[np.lexsort((lengths[piece], packed.stages[piece]))] for piece in windows]
    batches = rng.permutation(_padded(_join(sorted_, np.int64), size))
    latest = np.where(batches < 0, 0, packed.stages[batches]).max(axis=1, initial=0)
    return batches[np.argsort(latest, kind="stable")]


def sorted_batches(packed: Packed, *, size: int) -> np.ndarray:
    """Return batches of all examples by length, as indices [batches, size]; -1 pads the last one."""
    return _padded(np.argsort(packed.lengths, kind="stable"), size)


def collate(packed: Packed, rows: np.ndarray, *, pad: int, capacity: int | None = None) -> Batch:
    """Return the examples `rows` as one batch. The index -1 becomes a row of padding without target tokens.

    With `capacity`, examples share rows of at most so many tokens, and the batch has `restarts`.
    """
    lengths = np.where(rows < 0, 0, packed.lengths[rows])
    layout = one_each(lengths) if capacity is None else shared(lengths, capacity)
    ids = np.full((layout.height, layout.width), pad, np.int64)
    mask = np.zeros((layout.height, layout.width), np.int64)
    mask[:, 0] = 1  # a row that attends to nothing would be NaN
    positions, labels, weights = [], [], []
    for row, length, at, offset in zip(rows, lengths, layout.rows, layout.offsets, strict=True):
        if row < 0:
            continue
        start, target = packed.starts[row], packed.targets[row]
        tokens = packed.ids[start : start + length]
        ids[at, offset : offset + length] = tokens
        mask[at, offset : offset + length] = 1
        positions.append(at * layout.width + offset + np.arange(target - 1, length - 1))
        labels.append(tokens[target:].astype(np.int64))
        weights.append(np.full(length - target, packed.weights[row], np.float32))
    return Batch(
        ids=torch.from_numpy(ids),
        mask=torch.from_numpy(mask),
        positions=torch.from_numpy(_join(positions, np.int64)),
        labels=torch.from_numpy(_join(labels, np.int64)),
        weights=torch.from_numpy(_join(weights, np.float32)),
        restarts=None if capacity is None else torch.from_numpy(layout.restarting(lengths)),
    )


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    filled = np.full(-(-len(rows) // size) * size, -1, np.int64)
    filled[: len(rows)] = rows
    return filled.reshape(-1, size)


def _join(pieces: list[np.ndarray], kind: Any) -> np.ndarray:
    return np.concatenate(pieces) if pieces else np.empty(0, kind)
