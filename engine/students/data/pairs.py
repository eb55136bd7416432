"""PREFERENCE rows as token ids: each pair as two examples, and the share of pairs that an optimizer step has."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from engine.records.student import PreferenceAudit
from engine.rows import EXAMPLE, Row, from_rows
from engine.students.data.batch import PreferenceBatch
from engine.students.data.pack import Packed, collate
from engine.students.data.tokenise import tokenise

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


def pack_pairs(rows: pa.Table, tokenizer: Any, ending: list[int], *, max_tokens: int) -> PackedPairs:
    """Tokenize PREFERENCE `rows` (COLUMNS) in the order of their ids, as examples are; `ending` are the ids of the end of a turn.

    Left out and counted: pairs with an answer that makes an example of more than `max_tokens` tokens, and pairs whose two answers
    are the same tokens, which teach nothing.

    Raises:
        InputError: the chat template refuses a prompt.
    """
    rows = rows.sort_by("pair_id")
    chosen, rejected = (tokenise(_examples(rows, side), tokenizer, ending).to_pylist() for side in ("chosen", "rejected"))
    kept: list[tuple[Row, Row]] = []
    margins: list[float] = []
    too_long = equal = 0
    for pair, margin in zip(zip(chosen, rejected, strict=True), rows["margin"].to_pylist(), strict=True):
        if max(len(side["ids"]) for side in pair) > max_tokens:
            too_long += 1
        elif pair[0]["ids"] == pair[1]["ids"]:
            equal += 1
        else:
            kept.append(pair)
            margins.append(margin)
    sides = [side for pair in kept for side in pair]
    count = len(sides)
    sequences = Packed(
        ids=np.asarray([token for side in sides for token in side["ids"]], np.int32),
        starts=np.cumsum([0, *(len(side["ids"]) for side in sides)], dtype=np.int64),
        targets=np.asarray([side["target_start"] for side in sides], np.int32),
        weights=np.ones(count, np.float32),
        stages=np.zeros(count, np.int32),
        too_long=0,
    )
    learned = sequences.learned.astype(np.float64)
    return PackedPairs(sequences, _audit(learned[::2] / learned[1::2], margins, too_long, equal))


def _examples(rows: pa.Table, side: str) -> pa.Table:
    """Return the answers of one side as EXAMPLE rows."""
    examples = (
        {"example_id": row["pair_id"], "messages": row["prompt"], "target": row[side][-1]["content"]} for row in rows.to_pylist()
    )
    return from_rows(examples, EXAMPLE)


def _audit(ratios: np.ndarray, margins: list[float], too_long: int, equal: int) -> PreferenceAudit:
    count = max(len(ratios), 1)
    return PreferenceAudit(
        pairs=len(ratios),
        too_long=too_long,
        equal=equal,
        length_ratio=round(float(ratios.sum()) / count, 4),
        chosen_longer=round(float((ratios > 1).sum()) / count, 4),
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
