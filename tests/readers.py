"""Opens every table of every finished artifact below a folder with what analysts use, and compares what each finds."""

import json
from pathlib import Path

import datasets
import duckdb
import pandas
import polars
import pyarrow.dataset
import pyarrow.parquet as pq

from engine.columns import COLUMNS_KEY, declaration, description
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from engine.storage.readme import splits
from jobs.tables import WRITTEN, schema_of
from tests.spark_rules import problems


def require_open(run: Path) -> int:
    """Check that rows, splits and texts of columns are the same in every reader; return the number of tables.

    Raises:
        AssertionError: they are not; it names the table.
    """
    count = 0
    for record in sorted(run.glob("**/record.json")):
        artifact = load_artifact(Folder(str(record.parent)))
        assert artifact is not None
        for name, table in artifact.record.tables.items():
            place, count = record.parent / name, count + 1
            if table.shards:
                _require_rows(place, table.rows)
                _require_texts(place, f"{artifact.record.job}/{name}")
            if table.rows:  # `datasets` loads no table without rows, and the README lists none
                loaded = datasets.load_dataset(str(record.parent), name, streaming=True)  # as a whole it takes a second each
                assert {split: sum(1 for _ in rows) for split, rows in loaded.items()} == splits(name, table), place
    return count


def _require_rows(place: Path, rows: int) -> None:
    found = {
        "pyarrow": pyarrow.dataset.dataset(place).count_rows(),
        "pandas": len(pandas.read_parquet(place)),
        "polars": polars.scan_parquet(f"{place}/").collect().height,
        "duckdb": duckdb.sql(f"select count(*) from '{place}/*.parquet'").fetchall()[0][0],
    }
    assert found == dict.fromkeys(found, rows), place


def _require_texts(place: Path, key: str) -> None:
    schema = schema_of(key) or WRITTEN.get(place.name)  # records of a server are of no job
    declared = declaration(schema) if schema else None
    assert schema and declared, f"{key} is not declared"
    assert problems(schema) == [], key
    wanted = {path: description(column) for path, column in declared.by_path.items()}
    for path in place.iterdir():
        assert json.loads(pq.read_metadata(path).metadata[COLUMNS_KEY]) == wanted, path
        assert json.loads(polars.read_parquet_metadata(path)[COLUMNS_KEY.decode()]) == wanted, path
        query = f"select decode(value) from parquet_kv_metadata('{path}') where decode(key) = '{COLUMNS_KEY.decode()}'"
        assert json.loads(duckdb.sql(query).fetchall()[0][0]) == wanted, path
        fields = {field.name: field.metadata[b"description"].decode() for field in pq.read_schema(path)}
        assert fields == {column.name: column.text for column in declared.columns}, path
