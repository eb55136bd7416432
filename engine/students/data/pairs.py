"""PREFERENCE rows as token ids: each pair as two examples, and the share of pairs that an optimizer step has."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from engine.records.student import PreferenceAudit
from engine.students.data.batch import PreferenceBatch
from engine.students.data.pack import Packed, collate, encode, iterate

COLUMNS = ("pair_id", "split", "prompt", "chosen", "rejected", "margin")


@dataclass(frozen=True)
class PackedPairs:
    """Pairs of one split. The chosen answer of pair i is example 2 i of `sequences`, the rejected one example 2 i + 1."""

    sequences: Packed
    audit: PreferenceAudit

    def __len__(self) -> int:
        return len(self.sequences) // 2

    @property
    def chosen(self) -> Packed:
        """The chosen answers alone, one example a pair."""
        each = self.sequences
        starts = np.cumsum([0, *each.lengths[::2]], dtype=np.int64)
        spans = [each.ids[each.starts[row] : each.starts[row + 1]] for row in range(0, len(each), 2)]
        ids = np.concatenate(spans) if spans else each.ids
        return Packed(ids, starts, each.targets[::2], each.weights[::2], each.stages[::2], 0)


def pack_pairs(rows: pa.Table, tokenizer: Any, *, max_tokens: int) -> PackedPairs:
    """Tokenize PREFERENCE `rows` (COLUMNS) in the order of their ids.

    Left out and counted: pairs with an answer that makes an example of more than `max_tokens` tokens, and pairs whose two answers
    are the same tokens, which teach nothing.
    """
    pieces: list[np.ndarray] = []
    targets: list[int] = []
    ratios: list[float] = []
    margins: list[float] = []
    too_long = equal = 0
    for row in iterate(rows.sort_by("pair_id")):
        sides = [encode(tokenizer, row["prompt"], row[side][-1]["content"]) for side in ("chosen", "rejected")]
        if max(len(ids) for ids, _ in sides) > max_tokens:
            too_long += 1
        elif np.array_equal(sides[0][0], sides[1][0]):
            equal += 1
        else:
            pieces += [ids for ids, _ in sides]
            targets += [start for _, start in sides]
            learned = [len(ids) - start for ids, start in sides]
            ratios.append(learned[0] / learned[1])
            margins.append(row["margin"])
    starts = np.cumsum([0, *(len(piece) for piece in pieces)], dtype=np.int64)
    ids = np.concatenate(pieces) if pieces else np.empty(0, np.int32)
    count = len(targets)
    columns = np.asarray(targets, np.int32), np.ones(count, np.float32), np.zeros(count, np.int32)
    sequences = Packed(ids, starts, *columns, too_long=0)
    return PackedPairs(sequences, _audit(ratios, margins, too_long, equal))


def _audit(ratios: list[float], margins: list[float], too_long: int, equal: int) -> PreferenceAudit:
    count = max(len(ratios), 1)
    return PreferenceAudit(
        pairs=len(ratios),
        too_long=too_long,
        equal=equal,
        length_ratio=round(sum(ratios) / count, 4),
        chosen_longer=round(sum(ratio > 1 for ratio in ratios) / count, 4),
        margin=round(sum(margins) / count, 4),
    )


def pairs_of_step(count: int, *, step: int, steps: int, seed: int, epoch: int) -> np.ndarray:
    """Return which of `count` pairs step `step` (from 0) of an epoch of `steps` has: all once an epoch, evenly spread, shuffled by
    seed and epoch."""
    order = np.random.default_rng((seed, epoch, 1)).permutation(count)
    return order[step * count // steps : (step + 1) * count // steps]


def shared(rows: np.ndarray, *, micro: int, world: int, rank: int) -> np.ndarray:
    """Return this worker's share of the pairs `rows`, one line for each micro-batch [micro, P]; -1 pads."""
    size = -(-len(rows) // (micro * world))
    filled = np.full(micro * world * size, -1, np.int64)
    filled[: len(rows)] = rows
    return filled.reshape(micro, world, size)[:, rank]


def collate_pairs(pairs: PackedPairs, rows: np.ndarray, *, reference: np.ndarray | None, pad: int) -> PreferenceBatch:
    """Return the pairs `rows` as one batch. The index -1 becomes a pair of padding.

    `reference` has the log-probability of each of the sequences [2 pairs]; None = not captured yet.
    """
    sides = np.concatenate([np.where(rows < 0, -1, 2 * rows), np.where(rows < 0, -1, 2 * rows + 1)])
    known = np.zeros(len(sides), np.float32) if reference is None else np.where(sides < 0, 0, reference[sides]).astype(np.float32)
    weights = (rows >= 0).astype(np.float32)
    return PreferenceBatch(collate(pairs.sequences, sides, pad=pad), torch.from_numpy(known), torch.from_numpy(weights))
