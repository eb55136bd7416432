"""Token ids of examples in one flat array, and batches of examples of similar length.

Only the target's tokens are learned. The order of batches depends on seed and epoch alone, so that a resumed run gets the same
batches as an unbroken one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from engine.students.data.batch import Batch, PolicyTokens, TeacherTokens
from engine.students.data.captured import Captured
from engine.students.data.rows import one_each, shared

WINDOW = 8  # batches within which examples are sorted by length: long enough to save padding, short enough to stay random


@dataclass(frozen=True)
class Policy:
    """What `grpo` knows of samples."""

    advantages: np.ndarray  # float32 [examples]
    old: np.ndarray  # float32 [target tokens of all examples], nats; see `PolicyTokens`
    reference: np.ndarray  # float32 [target tokens of all examples], nats

    def of(self, rows: np.ndarray, tokens: np.ndarray, learned: np.ndarray) -> PolicyTokens:
        """Return that of the examples `rows`, which have the target tokens `tokens`, `learned` each."""
        arrays = np.repeat(self.advantages[rows], learned), self.old[tokens], self.reference[tokens]
        return PolicyTokens(*(torch.from_numpy(array) for array in arrays))


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
    teacher: Captured | None = None  # of all target tokens
    policy: Policy | None = None  # of samples
    # Filled in by objectives/marks.py where an objective reads them.
    rationales: np.ndarray | None = None  # int32 [examples, 2], where the rationale begins and ends among the target's tokens
    blends: np.ndarray | None = None  # int64, which blend of objectives an example has

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

    @cached_property
    def target_starts(self) -> np.ndarray:
        """The number of the first target token of each example among those of all, and their total."""
        return np.cumsum([0, *self.learned])

    def tokens_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the numbers of the target tokens of the examples `rows` among those of all, int64."""
        starts = self.target_starts
        return _join([np.arange(starts[row], starts[row + 1]) for row in rows], np.int64)

    def weight(self, rows: np.ndarray) -> float:
        """Return the weighted number of target tokens of the examples `rows`; -1 counts nothing."""
        rows = rows[rows >= 0]
        return float((self.weights[rows].astype(np.float64) * self.learned[rows]).sum())


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
        **_of_objectives(packed, rows[rows >= 0]),
    )


def _of_objectives(packed: Packed, rows: np.ndarray) -> Mapping[str, Any]:
    """Return the fields of Batch that only some objectives read, for the target tokens of the examples `rows`."""
    learned, fields = packed.learned[rows], {}
    if packed.blends is not None:
        fields["blends"] = torch.from_numpy(np.repeat(packed.blends[rows], learned))
    if packed.rationales is not None:
        spans = zip(learned, packed.rationales[rows], strict=True)
        within = [(np.arange(count) >= start) & (np.arange(count) < end) for count, (start, end) in spans]
        fields["rationale"] = torch.from_numpy(_join(within, bool))
    if packed.teacher is not None:
        fields["teacher"] = TeacherTokens.of(packed.teacher, packed.tokens_of(rows))
    if packed.policy is not None:
        fields["policy"] = packed.policy.of(rows, packed.tokens_of(rows), learned)
    return fields


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    filled = np.full(-(-len(rows) // size) * size, -1, np.int64)
    filled[: len(rows)] = rows
    return filled.reshape(-1, size)


def _join(pieces: list[np.ndarray], kind: Any) -> np.ndarray:
    return np.concatenate(pieces) if pieces else np.empty(0, kind)
