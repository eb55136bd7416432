"""EXAMPLE rows as token ids: one flat array for all examples, and batches of like length.

Only the target's tokens are learned; the prompt's are read. The order of batches follows from seed and epoch alone, so that
a resumed run meets the same batches as an unbroken one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from engine.rows import DIFFICULTIES

Chat = list[dict[str, str]]

COLUMNS = ("messages", "target", "weight", "split", "confidence_tier", "difficulty")
LAST = 1 << 20  # the stage of what is not known: no tier, no difficulty
STAGES: dict[str, Callable[[dict[str, Any]], int]] = {
    "none": lambda row: 0,
    "confidence_tier": lambda row: LAST if row["confidence_tier"] is None else row["confidence_tier"],
    "difficulty": lambda row: DIFFICULTIES.index(row["difficulty"]) if row["difficulty"] in DIFFICULTIES else LAST,
}
"""Curriculum -> when an example is due (Bengio et al., "Curriculum learning", 2009): lower stages first, within each epoch."""
WINDOW = 8  # batches within which examples are sorted by length: long enough to save padding, short enough to stay random


@dataclass(frozen=True)
class Packed:
    """Examples of one split. Example i is `ids[starts[i]:starts[i + 1]]`; its target begins at `targets[i]` of those."""

    ids: np.ndarray  # int32, all examples one after the other
    starts: np.ndarray  # int64, one more than there are examples
    targets: np.ndarray  # int32
    weights: np.ndarray  # float32
    stages: np.ndarray  # int32, STAGES: what is lower comes first
    too_long: int  # examples that were left out

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
    """What one worker computes at once: B examples padded on the right to L tokens, T target tokens in all."""

    ids: torch.Tensor  # int64 [B, L]
    mask: torch.Tensor  # int64 [B, L], 1 where there is a token
    positions: torch.Tensor  # int64 [T], into the flattened [B * L], of the token before each target token
    labels: torch.Tensor  # int64 [T]
    weights: torch.Tensor  # float32 [T]

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on `device`."""
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def pack(examples: pa.Table, tokenizer: Any, *, max_tokens: int, curriculum: str = "none") -> Packed:
    """Tokenize `examples` (columns of COLUMNS): chat template with generation prompt, then target and end of sequence.

    An example of more than `max_tokens` tokens is left out and counted.
    """
    pieces: list[np.ndarray] = []
    targets: list[int] = []
    weights: list[float] = []
    stages: list[int] = []
    for row in iterate(examples):
        ids, asked = encode(tokenizer, row["messages"], row["target"])
        if len(ids) > max_tokens:
            continue
        pieces.append(ids)
        targets.append(asked)
        weights.append(row["weight"])
        stages.append(STAGES[curriculum](row))
    starts = np.cumsum([0, *(len(piece) for piece in pieces)], dtype=np.int64)
    too_long = examples.num_rows - len(pieces)
    learnt = np.asarray(targets, np.int32), np.asarray(weights, np.float32), np.asarray(stages, np.int32)
    return Packed(_join(pieces, np.int32), starts, *learnt, too_long)


def iterate(examples: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the rows of `examples`, a batch at a time as Python objects."""
    for batch in examples.to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


def encode(tokenizer: Any, messages: Chat, target: str) -> tuple[np.ndarray, int]:
    """Return the tokens of prompt and target, and how many are the prompt's."""
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    said = tokenizer(target, add_special_tokens=False)["input_ids"]
    return np.asarray([*asked, *said, tokenizer.eos_token_id], np.int32), len(asked)


def order(packed: Packed, *, size: int, seed: int, epoch: int) -> np.ndarray:
    """Return the batches of one epoch as example numbers [batches, size]; -1 fills up the last one.

    Examples come stage by stage, at random within a stage; a batch that holds two stages comes with the later one.
    """
    draw = np.random.default_rng((seed, epoch))
    rows = draw.permutation(len(packed))
    rows = rows[np.argsort(packed.stages[rows], kind="stable")]
    window = size * WINDOW
    lengths = packed.lengths
    windows = [rows[start : start + window] for start in range(0, len(rows), window)]
    sorted_ = [piece[np.lexsort((lengths[piece], packed.stages[piece]))] for piece in windows]
    batches = draw.permutation(_shaped(_join(sorted_, np.int64), size))
    due = np.where(batches < 0, 0, packed.stages[batches]).max(axis=1, initial=0)
    return batches[np.argsort(due, kind="stable")]


def in_order(packed: Packed, *, size: int) -> np.ndarray:
    """Return all examples by length as example numbers [batches, size]; -1 fills up the last one."""
    return _shaped(np.argsort(packed.lengths, kind="stable"), size)


def collate(packed: Packed, rows: np.ndarray, *, pad: int) -> Batch:
    """Return the examples `rows` as one batch. -1 becomes a row of padding with nothing to learn."""
    lengths = np.where(rows < 0, 0, packed.lengths[rows])
    width = max(int(lengths.max()), 1)
    ids = np.full((len(rows), width), pad, np.int64)
    mask = np.zeros((len(rows), width), np.int64)
    mask[:, 0] = 1  # a row that attends to nothing would be NaN
    positions, labels, weights = [], [], []
    for at, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        if row < 0:
            continue
        start, target = packed.starts[row], packed.targets[row]
        ids[at, :length] = packed.ids[start : start + length]
        mask[at, :length] = 1
        positions.append(at * width + np.arange(target - 1, length - 1))
        labels.append(ids[at, target:length])
        weights.append(np.full(length - target, packed.weights[row], np.float32))
    return Batch(
        ids=torch.from_numpy(ids),
        mask=torch.from_numpy(mask),
        positions=torch.from_numpy(_join(positions, np.int64)),
        labels=torch.from_numpy(_join(labels, np.int64)),
        weights=torch.from_numpy(_join(weights, np.float32)),
    )


def _shaped(rows: np.ndarray, size: int) -> np.ndarray:
    filled = np.full(-(-len(rows) // size) * size, -1, np.int64)
    filled[: len(rows)] = rows
    return filled.reshape(-1, size)


def _join(pieces: list[np.ndarray], kind: Any) -> np.ndarray:
    return np.concatenate(pieces) if pieces else np.empty(0, kind)
