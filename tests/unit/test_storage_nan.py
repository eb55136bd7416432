"""NaN in a table: found by whoever reads the shards, and counted."""

import math

import duckdb
import pyarrow as pa
import pytest

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
