"""The token ids of one split in a flat file on the node, mapped into memory by all workers there.

The file is written once from the shards of the artifact `tokens` (`node_files.py`). So the memory of a worker does not grow with
the corpus, but for some numbers an example.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.rows import DIFFICULTIES, KINDS, SPAN_KINDS, TOKENS, content_id
from engine.storage.artifact import Artifact
from engine.storage.shards import iterate
from engine.students.data.node_files import mapped, opened
from engine.students.data.pack import Packed

LAST = 1 << 20  # the tier or stage of an example that has none
IDS, ARRAYS = "ids.int32", "arrays.npz"
COUNTED = ("split", "weight", "target_start", "ids")  # columns of TOKENS
Arrays = dict[str, np.ndarray]


def load(tokens: Artifact, key: str, *, split: str, max_tokens: int, curriculum: str, home: Path | None = None) -> Packed:
    """Return the examples of `split` with at most `max_tokens` tokens, as the tokenizer `key` encodes them, by example_id.

    `home` is the folder of the flat files on this node; by default one below the folder for temporary files.

    Raises:
        StorageError: the files cannot be written, or have another owner.
    """
    table = tokens.table(f"examples_{key}")
    pieces = iterate(tokens.folder / f"examples_{key}", table)  # a generator: nothing is read yet
    name = content_id("flat", 1, table.digest, split, max_tokens)

    def write(folder: Path) -> None:
        _write(folder, pieces, split=split, max_tokens=max_tokens)

    return opened(name, write, lambda folder: _read(folder, curriculum), home=home)


class Counts(NamedTuple):
    """What a training has of one split."""

    kept: int = 0  # examples
    too_long: int = 0  # examples that are left out
    weight: float = 0.0  # weighted target tokens of those that are kept
    longest: int = 0  # tokens of one that is kept

    @staticmethod
    def of(packed: Packed) -> "Counts":
        """Return the counts of a split that is loaded."""
        weight = packed.weight(np.arange(len(packed)))
        return Counts(len(packed), packed.too_long, weight, int(packed.lengths.max(initial=0)))


def counts(tokens: Artifact, key: str, *, max_tokens: int) -> dict[str, Counts]:
    """Return split -> what `load` would find of it; the shards are read one at a time."""
    found: dict[str, Counts] = {}
    for piece in iterate(tokens.folder / f"examples_{key}", tokens.table(f"examples_{key}"), COUNTED):
        lengths = pc.list_value_length(piece["ids"]).to_numpy()
        weights = piece["weight"].to_numpy().astype(np.float64) * (lengths - piece["target_start"].to_numpy())
        fits, splits = lengths <= max_tokens, np.asarray(piece["split"].to_pylist())
        for split in set(splits.tolist()):
            mine, before = splits == split, found.get(split, Counts())
            kept = mine & fits
            found[split] = Counts(
                before.kept + int(kept.sum()),
                before.too_long + int((mine & ~fits).sum()),
                before.weight + float(weights[kept].sum()),
                max(before.longest, int(lengths[kept].max(initial=0))),
            )
    return found


def pack(pieces: Iterable[pa.Table], *, split: str, max_tokens: int, curriculum: str = "none") -> Packed:
    """Return the examples of `split` in `pieces` of TOKENS, in memory; those of more than `max_tokens` tokens are counted only."""
    ids: list[np.ndarray] = []
    arrays = _arrays(pieces, ids.append, split=split, max_tokens=max_tokens)
    return _packed(np.concatenate([np.empty(0, np.int32), *ids]), arrays, curriculum)


def _write(folder: Path, pieces: Iterable[pa.Table], *, split: str, max_tokens: int) -> None:
    with (folder / IDS).open("wb") as file:
        arrays = _arrays(pieces, lambda ids: file.write(ids.tobytes()), split=split, max_tokens=max_tokens)
    np.savez(folder / ARRAYS, **arrays)  # type: ignore[arg-type]


def _read(folder: Path, curriculum: str) -> Packed:
    with np.load(folder / ARRAYS) as arrays:
        return _packed(mapped(folder / IDS, np.int32), dict(arrays), curriculum)


def _packed(ids: np.ndarray, arrays: Arrays, curriculum: str) -> Packed:
    difficulties, too_long = arrays.pop("difficulties"), int(arrays.pop("too_long"))
    stages = {"confidence_tier": arrays["tiers"], "difficulty": difficulties}.get(curriculum, np.zeros_like(difficulties))
    columns: Any = arrays
    return Packed(ids=ids, stages=stages, too_long=too_long, **columns)


def _arrays(pieces: Iterable[pa.Table], write: Callable[[np.ndarray], Any], *, split: str, max_tokens: int) -> Arrays:
    """Return the arrays of an example each; `write` gets the token ids, piece by piece."""
    parts: list[Arrays] = [_numbers(TOKENS.empty_table())]
    too_long = 0
    for piece in pieces:
        rows = piece.filter(pc.field("split") == split)
        kept = rows.filter(pc.less_equal(pc.list_value_length(rows["ids"]), max_tokens))
        too_long += len(rows) - len(kept)
        if len(kept):
            write(pc.list_flatten(kept["ids"]).to_numpy().astype(np.int32, copy=False))
            parts.append(_numbers(kept))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    starts = {name: np.cumsum([0, *joined.pop(name)], dtype=np.int64) for name in ("starts", "span_starts")}
    return {**joined, **starts, "too_long": np.asarray(too_long)}


def _numbers(rows: pa.Table) -> Arrays:
    """Return the fields of Packed, of an example each; `starts` and `span_starts` are lengths."""
    spans = pc.list_flatten(rows["spans"]).combine_chunks()
    bounds = [spans.field(name).to_numpy(zero_copy_only=False) for name in ("start", "end")]
    return {
        "starts": rows["ids"].combine_chunks().value_lengths().to_numpy(zero_copy_only=False),
        "targets": rows["target_start"].to_numpy().astype(np.int32),
        "weights": rows["weight"].to_numpy().astype(np.float32),
        "tiers": pc.fill_null(rows["confidence_tier"], LAST).to_numpy().astype(np.int32),
        "difficulties": _index(rows["difficulty"], DIFFICULTIES, missing=LAST),
        "kinds": _index(rows["kind"], KINDS).astype(np.int8),
        "example_ids": np.asarray(rows["example_id"].to_pylist(), "S"),
        "span_starts": rows["spans"].combine_chunks().value_lengths().to_numpy(zero_copy_only=False),
        "spans": np.stack([_index(spans.field("kind"), SPAN_KINDS), *bounds], axis=1).astype(np.int32),
    }


def _index(values: Any, names: Sequence[str], missing: int = -1) -> np.ndarray:
    """Return the index of each of `values` in `names`; `missing` for others."""
    return pc.fill_null(pc.index_in(values, pa.array(names)), missing).to_numpy(zero_copy_only=False).astype(np.int32)
