"""Token ids in flat files: as in the shards, written once for all workers, mapped, verified, and made anew if damaged."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.records.record import Identity
from engine.rows import TOKENS, from_rows
from engine.storage import shards
from engine.storage.artifact import Artifact, ArtifactWriter, RowCounts
from engine.storage.folder import Folder
from engine.students.data import flat, node_files
from engine.students.data.pack import Packed

ROWS = [
    {
        "example_id": f"{number:03}", "split": "validation" if number % 4 == 3 else "train", "kind": "answer",
        "ids": list(range(number + 2)), "target_start": 1, "weight": 1.0 + number, "difficulty": "hard",
        "spans": [{"kind": "final", "start": 1, "end": number + 1}, {"kind": "turn_end", "start": number + 1, "end": number + 2}],
    }
    for number in range(40)
]  # fmt: skip


@pytest.fixture
def tokens(tmp_path: Path) -> Artifact:
    writer = ArtifactWriter(Folder(str(tmp_path / "tokens")))
    pieces = [from_rows(ROWS[start : start + 7], TOKENS) for start in range(0, 40, 7)]
    writer.tables["examples_key"] = shards.write_pieces(writer.folder / "examples_key", pieces, TOKENS, shard_rows=10)
    return writer.finish(Identity("tokens", {}, {}, "0"), RowCounts(40, {"tokenised": 40}))


def load(tokens: Artifact, home: Path, **changes: Any) -> Packed:
    options = {"split": "train", "max_tokens": 35, "curriculum": "none", **changes}
    return flat.load(tokens, "key", home=home, **options)


def test_examples_are_those_of_the_shards_in_their_order(tokens: Artifact, tmp_path: Path) -> None:
    packed = load(tokens, tmp_path / "flat")
    kept = [row for row in ROWS if row["split"] == "train" and len(row["ids"]) <= 35]
    assert [packed.ids[start:end].tolist() for start, end in zip(packed.starts, packed.starts[1:], strict=False)] == [
        row["ids"] for row in kept
    ]
    assert packed.example_ids.tolist() == [row["example_id"].encode() for row in kept]
    assert packed.weights.tolist() == [row["weight"] for row in kept] and packed.too_long == 4
    assert packed.spans[packed.span_starts[3] :][:2].tolist() == [[1, 1, 5], [3, 5, 6]]
    assert isinstance(packed.ids, np.memmap) and not packed.ids.flags.writeable


@pytest.mark.parametrize("name", [flat.IDS, flat.ARRAYS, node_files.DIGEST])
def test_damaged_file_is_written_anew(tokens: Artifact, tmp_path: Path, name: str) -> None:
    before = load(tokens, tmp_path / "flat").ids.tolist()
    [path] = (tmp_path / "flat").rglob(name)
    path.write_bytes(path.read_bytes()[:-4] + b"junk")
    assert load(tokens, tmp_path / "flat").ids.tolist() == before


def test_workers_of_a_node_read_the_shards_once(tokens: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    read = shards.read_shard
    monkeypatch.setattr(shards, "read_shard", lambda *given, **named: reads.append(1) or read(*given, **named))
    found: list[Packed] = []
    workers = [threading.Thread(target=lambda: found.append(load(tokens, tmp_path / "flat"))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4 and len(reads) == len(tokens.table("examples_key").shards)


def test_a_split_without_examples_is_empty(tokens: Artifact, tmp_path: Path) -> None:
    assert len(load(tokens, tmp_path / "flat", max_tokens=1).ids) == len(load(tokens, tmp_path / "flat", split="other")) == 0


def test_pack_in_memory_equals_the_files(tokens: Artifact, tmp_path: Path) -> None:
    files = load(tokens, tmp_path / "flat", curriculum="difficulty")
    memory = flat.pack([from_rows(ROWS, TOKENS)], split="train", max_tokens=35, curriculum="difficulty")
    for name in Packed.__dataclass_fields__:
        assert np.array_equal(getattr(files, name), getattr(memory, name)), name
    assert set(memory.stages) == {2}
