"""EXAMPLE rows as token ids in one flat array, and batches of examples of similar length.

Only the target's tokens are learned. The order of batches depends on seed and epoch alone, so that a resumed run gets the same
batches as an unbroken one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from engine.inference.engine import Chat
from engine.inference.turn_marks import encode_chat, encode_text
from engine.rows import DIFFICULTIES, KINDS, SPAN_KINDS, Row
from engine.students.data.batch import Batch, TeacherTokens
from engine.students.data.captured import Captured

CURRICULUM_COLUMNS = ("confidence_tier", "difficulty")
LAST = 1 << 20  # the stage of an example without a tier or difficulty
WINDOW = 8  # batches within which examples are sorted by length: long enough to save padding, short enough to stay random


@dataclass(frozen=True)
class Packed:
    """Examples of one split. Example i is `ids[starts[i]:starts[i + 1]]`; its target begins at offset `targets[i]` of those."""

    ids: np.ndarray  # int32, all examples one after the other
    starts: np.ndarray  # int64, one more than there are examples
    targets: np.ndarray  # int32
    weights: np.ndarray  # float32
    stages: np.ndarray  # int32, see `stage`: lower ones come first
    too_long: int  # examples that were left out
    kinds: np.ndarray = field(default_factory=lambda: np.empty(0, np.int8))  # index into rows.KINDS; -1 = another one
    tiers: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))  # confidence_tier; LAST = none
    span_starts: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))  # of example i: spans[starts[i]:starts[i + 1]]
    spans: np.ndarray = field(default_factory=lambda: np.empty((0, 3), np.int32))  # index into SPAN_KINDS, first token, end
    teacher: Captured | None = None  # of all target tokens
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

    def weight(self, rows: np.ndarray) -> float:
        """Return the weighted number of target tokens of the examples `rows`; -1 counts nothing."""
        rows = rows[rows >= 0]
        return float((self.weights[rows].astype(np.float64) * self.learned[rows]).sum())


def pack(examples: pa.Table, tokenizer: Any, *, max_tokens: int, curriculum: str = "none") -> Packed:
    """Tokenize `examples` (columns messages, target, weight, kind, rationale, and those of the curriculum).

    An example is its chat in the tokenizer's template with generation prompt, then the target and the end of sequence.

    An example of more than `max_tokens` tokens is left out and counted.
    """
    pieces: list[np.ndarray] = []
    targets: list[int] = []
    kept: list[Row] = []
    spans: list[tuple[int, int, int]] = []
    for row in iterate(examples):
        ids, prompt_length = encode(tokenizer, row["messages"], row["target"])
        if len(ids) > max_tokens:
            continue
        pieces.append(ids)
        targets.append(prompt_length)
        kept.append(row)
        of_rationale = _rationale_tokens(ids[prompt_length:], tokenizer, row.get("rationale") or "", row["target"])
        spans.append((SPAN_KINDS.index("rationale"), prompt_length, prompt_length + of_rationale))
    return Packed(
        ids=_join(pieces, np.int32),
        starts=np.cumsum([0, *(len(piece) for piece in pieces)], dtype=np.int64),
        targets=np.asarray(targets, np.int32),
        weights=np.asarray([row["weight"] for row in kept], np.float32),
        stages=np.asarray([stage(row, curriculum) for row in kept], np.int32),
        too_long=examples.num_rows - len(pieces),
        kinds=np.asarray([KINDS.index(row["kind"]) if row["kind"] in KINDS else -1 for row in kept], np.int8),
        tiers=np.asarray([stage(row, "confidence_tier") for row in kept], np.int32),
        span_starts=np.arange(len(kept) + 1, dtype=np.int64),
        spans=np.asarray(spans, np.int32).reshape(-1, 3),
    )


def _rationale_tokens(ids: np.ndarray, tokenizer: Any, rationale: str, target: str) -> int:
    """Return how many of the target's first tokens `ids` hold the rationale alone, if `target` begins with it."""
    if not rationale or not target.startswith(rationale):
        return 0
    alone = np.asarray(encode_text(tokenizer, rationale))
    both = min(len(alone), len(ids))
    differs = np.flatnonzero(alone[:both] != ids[:both])
    return int(differs[0]) if len(differs) else both


def stage(row: Row, curriculum: str) -> int:
    """Return when `row` comes within an epoch (Bengio et al., "Curriculum learning", 2009): lower stages first."""
    if curriculum == "confidence_tier":
        return LAST if row["confidence_tier"] is None else row["confidence_tier"]
    if curriculum == "difficulty":
        return DIFFICULTIES.index(row["difficulty"]) if row["difficulty"] in DIFFICULTIES else LAST
    return 0


def iterate(examples: pa.Table) -> Iterator[Row]:
    """Yield the rows of `examples`; only some are Python objects at a time."""
    for batch in examples.to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


def encode(tokenizer: Any, messages: Chat, target: str) -> tuple[np.ndarray, int]:
    """Return the token ids of prompt, target and end of sequence, and the number of those of the prompt.

    Text that holds turn marks of the tokenizer is spelled out: it opens no turn, and ends no target in its middle.
    """
    prompt_ids, target_ids = encode_chat(tokenizer, messages), encode_text(tokenizer, target)
    return np.asarray([*prompt_ids, *target_ids, tokenizer.eos_token_id], np.int32), len(prompt_ids)


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


def collate(packed: Packed, rows: np.ndarray, *, pad: int) -> Batch:
    """Return the examples `rows` as one batch. The index -1 becomes a row of padding without target tokens."""
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
        starts = packed.target_starts
        tokens = [np.arange(starts[row], starts[row + 1]) for row in rows]
        fields["teacher"] = TeacherTokens.of(packed.teacher, _join(tokens, np.int64))
    return fields


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    filled = np.full(-(-len(rows) // size) * size, -1, np.int64)
    filled[: len(rows)] = rows
    return filled.reshape(-1, size)


def _join(pieces: list[np.ndarray], kind: Any) -> np.ndarray:
    return np.concatenate(pieces) if pieces else np.empty(0, kind)
