"""PREFERENCE rows as token ids: each pair as two examples, and the share of pairs that an optimizer step has."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from engine.inference.turn_end import turn_end
from engine.records.student import PreferenceAudit
from engine.rows import EXAMPLE, PREFERENCE, Row, content_id, from_rows
from engine.storage.artifact import Artifact
from engine.storage.shards import sorted_rows
from engine.students.data.batch import PreferenceBatch
from engine.students.data.node_files import mapped, opened
from engine.students.data.pack import Packed, collate
from engine.students.data.tokenise import tokenise

COLUMNS = ("pair_id", "split", "prompt", "chosen", "rejected", "margin")
IDS, CHOSEN, ARRAYS = "ids.int32", "chosen.int32", "arrays.npz"
Pair = tuple[Row, Row]
"""TOKENS rows of the chosen and of the rejected answer."""


@dataclass(frozen=True)
class PackedPairs:
    """Pairs of one split. The chosen answer of pair i is example 2 i of `sequences`, the rejected one example 2 i + 1."""

    sequences: Packed
    chosen: Packed
    """The chosen answers alone, one example a pair."""
    audit: PreferenceAudit

    def __len__(self) -> int:
        return len(self.chosen)


def load(dataset: Artifact, key: str, tokenizer: Any, *, split: str, max_tokens: int, home: Path | None = None) -> PackedPairs:
    """Return the pairs of `split` in the artifact `dataset`, by id, tokenized as examples are by `tokenizer`, whose key in the
    artifact `tokens` is `key`.

    Left out and counted: pairs with an answer that makes an example of more than `max_tokens` tokens, and pairs whose two answers
    are the same tokens, which teach nothing. Token ids are in flat files on the node, see `node_files.opened`; each pair takes some
    50 bytes of memory.

    Raises:
        InputError: the chat template refuses a prompt.
        StorageError: the files cannot be written, or have another owner.
    """
    table = dataset.table("preferences")

    def write(folder: Path) -> None:
        pieces = sorted_rows(dataset.folder / "preferences", table, pa.schema(map(PREFERENCE.field, COLUMNS)), by="pair_id")
        rows = (piece.filter(pc.field("split") == split) for piece in pieces)
        with (folder / IDS).open("wb") as both, (folder / CHOSEN).open("wb") as chosen:
            numbers = _numbers(rows, tokenizer, max_tokens, lambda pair: (both.write(_bytes(pair)), chosen.write(_bytes(pair[:1]))))
        np.savez(folder / ARRAYS, **numbers)  # type: ignore[arg-type]

    def read(folder: Path) -> PackedPairs:
        with np.load(folder / ARRAYS) as numbers:
            return _packed(mapped(folder / IDS, np.int32), mapped(folder / CHOSEN, np.int32), dict(numbers))

    return opened(content_id("pairs", 1, table.digest, key, split, max_tokens), write, read, home=home)


def _numbers(pieces: Iterable[pa.Table], tokenizer: Any, max_tokens: int, write: Callable[[Pair], Any]) -> dict[str, np.ndarray]:
    """Return what is known of each answer and pair; `write` gets the pairs that are kept."""
    lengths, targets, margins, left_out = list[int](), list[int](), list[float](), Counter[str]()
    ending = turn_end(tokenizer)
    for rows in pieces:
        chosen, rejected = (tokenise(_examples(rows, side), tokenizer, ending).to_pylist() for side in ("chosen", "rejected"))
        for pair, margin in zip(zip(chosen, rejected, strict=True), rows["margin"].to_pylist(), strict=True):
            if max(len(side["ids"]) for side in pair) > max_tokens:
                left_out["too_long"] += 1
            elif pair[0]["ids"] == pair[1]["ids"]:
                left_out["equal"] += 1
            else:
                write(pair)
                lengths += (len(side["ids"]) for side in pair)
                targets += (side["target_start"] for side in pair)
                margins.append(margin)
    return {
        "lengths": np.asarray(lengths, np.int64),
        "targets": np.asarray(targets, np.int32),
        "margins": np.asarray(margins, np.float64),
        "left_out": np.asarray([left_out["too_long"], left_out["equal"]]),
    }


def _bytes(answers: Sequence[Row]) -> bytes:
    return b"".join(np.asarray(answer["ids"], np.int32).tobytes() for answer in answers)


def _packed(both: np.ndarray, chosen: np.ndarray, numbers: Mapping[str, np.ndarray]) -> PackedPairs:
    sequences, alone = (
        Packed(
            ids=ids,
            starts=np.cumsum([0, *numbers["lengths"][::step]], dtype=np.int64),
            targets=numbers["targets"][::step],
            weights=np.ones(len(numbers["targets"][::step]), np.float32),
            stages=np.zeros(len(numbers["targets"][::step]), np.int32),
            too_long=0,
        )
        for ids, step in ((both, 1), (chosen, 2))
    )
    learned = sequences.learned.astype(np.float64)
    too_long, equal = numbers["left_out"].tolist()
    return PackedPairs(sequences, alone, _audit(learned[::2] / learned[1::2], numbers["margins"].tolist(), too_long, equal))


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
