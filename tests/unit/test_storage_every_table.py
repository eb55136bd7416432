"""Every table that a job writes opens in every reader with the same rows, splits and texts of columns, and keeps Spark's rules."""

import json

import datasets
import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import yaml
from every_table import ROWS, every_table

from engine.columns import COLUMNS_KEY, description
from jobs.tables import WRITTEN
from tests.readers import require_open
from tests.spark_rules import problems


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("every")


@pytest.fixture(scope="module")
def tables(root):
    return every_table(root)


def docs(declared):
    return {path: description(column) for path, column in declared.by_path.items()}


def splits(declared):
    """Split -> rows; None: the table has no splits of its own."""
    if not declared.split:
        return None
    values = next(column for column in declared.columns if column.name == declared.split).rules.values
    return {value: sum(number % len(values) == at for number in range(ROWS)) for at, value in enumerate(values)}


def test_every_table_of_a_job_is_there(tables):
    assert len(tables) == len(WRITTEN) >= 16


def test_all_readers_find_what_the_records_say(root, tables):
    assert require_open(root) == len(tables)


def test_arrow_finds_rows_columns_and_texts(root, tables):
    for key, (_, _, declared) in tables.items():
        found = pyarrow.dataset.dataset(root / key)
        assert found.count_rows() == ROWS, key
        assert {field.name: field.metadata[b"description"].decode() for field in found.schema} == {
            column.name: column.text for column in declared.columns
        }, key
        [text] = {pq.read_metadata(path).metadata[COLUMNS_KEY] for path in (root / key).iterdir()}
        assert json.loads(text) == docs(declared), key
        if expected := splits(declared):
            counts = found.to_table(columns=[declared.split])[declared.split].value_counts().to_pylist()
            assert {each["values"]: each["counts"] for each in counts} == expected, key


def test_polars_finds_rows_values_and_texts(root, tables):
    for key, (artifact, name, declared) in tables.items():
        rows = polars.scan_parquet(f"{root / key}/").collect()
        expected = artifact.read(name, pa.schema([(column.name, column.type) for column in declared.columns])).to_pylist()
        assert sorted(map(str, rows.to_dicts())) == sorted(map(str, expected)), key
        first = min((root / key).iterdir())
        assert json.loads(polars.read_parquet_metadata(first)[COLUMNS_KEY.decode()]) == docs(declared), key


def test_pandas_finds_rows_columns_and_nulls(root, tables):
    for key, (_, _, declared) in tables.items():
        rows = pandas.read_parquet(root / key)
        assert len(rows) == ROWS and list(rows.columns) == [column.name for column in declared.columns], key
        for column in declared.columns:
            assert rows[column.name].isna().sum() == (ROWS // 2 if column.rules.null else 0), (key, column.name)


def test_duckdb_finds_rows_splits_and_texts(root, tables):
    for key, (_, _, declared) in tables.items():
        files = f"{root / key}/*.parquet"
        assert duckdb.sql(f"select count(*) from '{files}'").fetchall() == [(ROWS,)], key
        if expected := splits(declared):
            assert dict(duckdb.sql(f"select {declared.split}, count(*) from '{files}' group by 1").fetchall()) == expected, key
        query = f"select distinct decode(value) from parquet_kv_metadata('{files}') where decode(key) = '{COLUMNS_KEY.decode()}'"
        [[text]] = duckdb.sql(query).fetchall()
        assert json.loads(text) == docs(declared), key


def test_load_dataset_finds_rows_columns_and_splits_by_the_readme_alone(root, tables):
    for key, (_, name, declared) in tables.items():
        folder = (root / key).parent
        header = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
        assert name in {config["config_name"] for config in header["configs"]}
        loaded = datasets.load_dataset(str(folder), name, streaming=True)  # the other way takes a second each
        rows = {split: list(each) for split, each in loaded.items()}
        assert {split: len(each) for split, each in rows.items()} == (
            splits(declared) or {"test" if name == "holdout" else "full": ROWS}
        ), key
        assert list(next(iter(rows.values()))[0]) == [column.name for column in declared.columns], key


@pytest.mark.parametrize("key", WRITTEN)
def test_spark_can_read_the_schema(key):
    assert problems(WRITTEN[key]) == []


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (pa.uint32(), "unsigned"),
        (pa.timestamp("ns"), "nanoseconds"),
        (pa.null(), "null"),
        (pa.dictionary(pa.int32(), pa.int64()), "dictionary"),
        (pa.list_(pa.struct([("x", pa.uint64())])), "unsigned"),
        (pa.decimal256(50, 2), "decimal"),
        (pa.float16(), "half"),
    ],
)
def test_spark_rules_find_what_spark_cannot_read(kind, problem):
    [found] = problems(pa.schema([("a", kind)]))
    assert problem in found
    assert problems(pa.schema([("a", pa.string()), ("A", pa.string())])) == ["A: another column has this name in other letters"]
    assert problems(pa.schema([("a b", pa.string())])) == ["a b: found a character of ' ,;{}()\\n\\t='"]
