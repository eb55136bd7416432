"""The token ids of one split in a flat file on the node, mapped into memory by all workers there.

The file is written once from the shards of the artifact `tokens`, under a lock, and verified by its hash whenever it is opened. So
the memory of a worker does not grow with the corpus, but for some numbers an example.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from filelock import FileLock

from engine.errors import StorageError
from engine.rows import DIFFICULTIES, KINDS, SPAN_KINDS, TOKENS, content_id
from engine.storage.artifact import Artifact
from engine.storage.shards import iterate
from engine.students.data.pack import Packed

LAST = 1 << 20  # the tier or stage of an example that has none
IDS, ARRAYS, DIGEST = "ids.int32", "arrays.npz", "digest.json"
CHUNK = 1 << 24  # bytes that are hashed at once
UNUSED_SECONDS = 7 * 24 * 3600  # after which files of other trainings are removed
Arrays = dict[str, np.ndarray]


def load(tokens: Artifact, key: str, *, split: str, max_tokens: int, curriculum: str, home: Path | None = None) -> Packed:
    """Return the examples of `split` with at most `max_tokens` tokens, as the tokenizer `key` encodes them, by example_id.

    `home` is the folder of the flat files on this node; by default one below the folder for temporary files.

    Raises:
        StorageError: the files cannot be written, or have another owner.
    """
    table = tokens.table(f"examples_{key}")
    pieces = iterate(tokens.folder / f"examples_{key}", table)  # a generator: nothing is read yet
    folder = (home or _home()) / content_id("flat", 1, table.digest, split, max_tokens)
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.parent.stat().st_uid != os.getuid():
            raise StorageError(f"{folder.parent}: belongs to another user. Remove it, or set TMPDIR to a folder of yours.")
        with FileLock(f"{folder}.lock"):
            if not _is_intact(folder):
                _write(folder, pieces, split=split, max_tokens=max_tokens)
                _sweep(folder.parent)
            os.utime(folder)  # it is in use
            return _read(folder, curriculum)
    except OSError as error:
        raise StorageError(
            f"{folder}: the token ids cannot be written there: {error}. Make room, or set TMPDIR to a folder with more."
        ) from error


def pack(pieces: Iterable[pa.Table], *, split: str, max_tokens: int, curriculum: str = "none") -> Packed:
    """Return the examples of `split` in `pieces` of TOKENS, in memory; those of more than `max_tokens` tokens are counted only."""
    ids: list[np.ndarray] = []
    arrays = _arrays(pieces, ids.append, split=split, max_tokens=max_tokens)
    return _packed(np.concatenate([np.empty(0, np.int32), *ids]), arrays, curriculum)


def _home() -> Path:
    return Path(tempfile.gettempdir(), f"rayleigh-tokens-{os.getuid()}")


def _write(folder: Path, pieces: Iterable[pa.Table], *, split: str, max_tokens: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with (folder / IDS).open("wb") as file:
        arrays = _arrays(pieces, lambda ids: file.write(ids.tobytes()), split=split, max_tokens=max_tokens)
    np.savez(folder / ARRAYS, **arrays)  # type: ignore[arg-type]
    digests = {name: _digest(folder / name) for name in (IDS, ARRAYS)}
    (folder / DIGEST).write_text(json.dumps(digests))  # last: without it the files count for nothing


def _is_intact(folder: Path) -> bool:
    try:
        digests = json.loads((folder / DIGEST).read_text())
        return digests == {name: _digest(folder / name) for name in (IDS, ARRAYS)}
    except (OSError, ValueError):
        return False


def _digest(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sweep(home: Path) -> None:
    """Remove files that no training has opened for long; one that still maps them keeps them until it ends."""
    for folder in home.iterdir():
        with suppress(OSError):
            if folder.is_dir() and folder.stat().st_mtime < time.time() - UNUSED_SECONDS:
                shutil.rmtree(folder)


def _read(folder: Path, curriculum: str) -> Packed:
    path = folder / IDS
    ids = np.memmap(path, np.int32, "r") if path.stat().st_size else np.empty(0, np.int32)  # an empty file cannot be mapped
    with np.load(folder / ARRAYS) as arrays:
        return _packed(ids, dict(arrays), curriculum)


def _packed(ids: np.ndarray, arrays: Arrays, curriculum: str) -> Packed:
    difficulties, too_long = arrays.pop("difficulties"), int(arrays.pop("too_long"))
    stages = {"confidence_tier": arrays["tiers"], "difficulty": difficulties}.get(curriculum, np.zeros_like(difficulties))
    return Packed(ids=ids, stages=stages, too_long=too_long, **arrays)


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
