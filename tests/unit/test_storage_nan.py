"""NaN in a table: found by whoever reads the shards, counted, and said."""

import math
import os

import duckdb
import pyarrow as pa
import pytest

from engine.records.record import Identity, RowCounts
from engine.storage.artifact import ArtifactWriter, load_artifact
from engine.storage.folder import Folder
from engine.storage.shards import write_shard

SCHEMA = pa.schema([("id", pa.int64()), ("score", pa.float64()), ("loss", pa.float32())])
ROWS = [(1, 0.5, 1.0), (2, math.nan, 2.0), (3, None, math.nan), (4, math.nan, None)]


def table(rows: list[tuple[object, ...]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA)


@pytest.mark.parametrize(
    ("where", "ids"),
    [("isnan(score)", [2, 4]), ("score > 0.4", [1, 2, 4]), ("score = 'nan'", [2, 4]), ("isnan(loss)", [3]), ("score is null", [3])],
)
def test_duckdb_finds_nan_in_shards(tmp_path, where, ids):
    folder = Folder(str(tmp_path))
    write_shard(folder, table([(0, None, None)]), SCHEMA, prefix="a")  # the first file of the glob holds only nulls
    shard = write_shard(folder, table(ROWS), SCHEMA, prefix="b")
    assert shard.nan == {"score": 2, "loss": 1}
    found = duckdb.sql(f"select id from '{tmp_path}/*.parquet' where id > 0 and {where} order by id").fetchall()
    assert [row[0] for row in found] == ids


def test_record_vouches_for_files_that_are_on_the_disk(tmp_path, monkeypatch):
    """Each listed file is flushed before the record is written, the record before its folder gets its name, then the parent."""
    events: list[str] = []
    fsync, names = os.fsync, {}

    def recorded(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        events.append(os.path.basename(path))
        names[os.path.basename(path)] = os.path.exists(f"{tmp_path}/run/.building-scores/record.json")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    writer = ArtifactWriter(Folder(f"{tmp_path}/run/scores"))
    writer.put("scores", table(ROWS), SCHEMA)
    writer.folder.write("weights.bin", b"w")
    artifact = writer.finish(Identity("scores", {}, {}, "f"), RowCounts(4, {"kept": 4}))
    [shard] = artifact.table("scores").shards
    assert events == [shard.path, "scores", "weights.bin", "record.json", ".building-scores", "run"]
    assert not names[shard.path] and not names["weights.bin"] and names["record.json"]
    again = load_artifact(Folder(f"{tmp_path}/run/scores"))
    assert again and again.table("scores").shards[0].nan == {"score": 2, "loss": 1}
