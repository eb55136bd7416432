"""A capture in the tokens of a student, in flat files on the node: laid out once for all its workers, and mapped into memory.

Examples and captured rows are both read in the order of example ids, so that one answer and its examples are in memory at a time.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from engine.capture.schemas import CAPTURE, VOCABULARY
from engine.records.capture import CaptureMetrics
from engine.rows import Row, content_id
from engine.storage.artifact import Artifact
from engine.storage.shards import sorted_rows
from engine.students.data.aligned import Aligner, by_example, captured_as
from engine.students.data.captured import Captured
from engine.students.data.node_files import mapped, opened
from engine.students.data.pack import Packed

ARRAYS: Mapping[str, Any] = {"starts": np.int64, "ids": np.int32, "logprobs": np.float32, "tail": np.float32, "gate": np.bool_}
"""Fields of Captured; each is a file."""
LATEST = chr(0x10FFFF)  # comes after every id


def load(capture: Artifact, packed: Packed, tokenizer: Any, *, key: str, home: Path | None = None) -> Captured:
    """Return the distributions of the artifact `capture` at the target tokens of `packed`, see `Aligner.example`.

    `key` is that of `tokenizer` in the artifact `tokens`; `home` as in `node_files.opened`. The ids of the examples must rise.

    Raises:
        StorageError: the files cannot be written, or have another owner.
    """
    name = content_id("captured", 1, capture.fingerprint, key, _digest(packed))
    return opened(name, lambda folder: _write(folder, capture, packed, tokenizer), _read, home=home)


def _digest(packed: Packed) -> str:
    digest = xxhash.xxh3_128()
    for array in (packed.example_ids, packed.starts, packed.targets, packed.ids):
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()


def _write(folder: Path, capture: Artifact, packed: Packed, tokenizer: Any) -> None:
    words = capture.read("vocabulary", VOCABULARY)
    end = int(packed.ids[packed.starts[1] - 1]) if len(packed) else -1
    aligner = Aligner(words, capture.metrics(CaptureMetrics), tokenizer, end)
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("wb")) for name in ARRAYS}
        files["starts"].write(np.zeros(1, np.int64).tobytes())
        total = 0
        for rows, target in _joined(capture, packed):
            found = aligner.example(rows, target)
            files["starts"].write((found.starts[1:] + total).tobytes())
            total += int(found.starts[-1])
            for name in ("ids", "logprobs", "tail", "gate"):
                files[name].write(getattr(found, name).tobytes())


def _joined(capture: Artifact, packed: Packed) -> Iterator[tuple[Mapping[str, Row], list[int]]]:
    """Yield what was captured of each example of `packed`, and its target's tokens."""
    pieces = sorted_rows(capture.folder / "captured", capture.table("captured"), CAPTURE, by="example_id")
    rows = (row for piece in pieces for row in piece.to_pylist())
    groups = groupby(rows, key=lambda row: _answer(row["example_id"]))
    answer, held = "", dict[str, dict[str, Row]]()
    before = ""
    for index, encoded in enumerate(packed.example_ids.tolist()):
        name, target = encoded.decode(), slice(packed.starts[index] + packed.targets[index], packed.starts[index + 1])
        wanted, previous = _answer(name), before
        assert previous <= wanted, f"{name} comes behind {previous}: examples are packed in the order of their ids"
        before = wanted
        while answer < wanted:
            answer, group = next(groups, (LATEST, ()))
            held = by_example(group)
        yield held.get(captured_as(name), {}) if answer == wanted else {}, packed.ids[target].tolist()


def _answer(example_id: str) -> str:
    """Return the id of the answer that an example was made of."""
    return example_id.partition("-")[0]


def _read(folder: Path) -> Captured:
    return Captured(**{name: mapped(folder / name, kind) for name, kind in ARRAYS.items()})
