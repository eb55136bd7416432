"""Finished artifacts are opened by what analysts use: the same counts, splits and texts of columns everywhere."""

import json

import datasets
import duckdb
import pandas
import polars
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import yaml
from made_run import made_run

from engine.columns import COLUMNS_KEY, about, described, documented
from engine.rows import EXAMPLE, TABLES, VERSION
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder

JOBS = ("prompts", "candidates", "dataset", "students/small", "reports")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readers")
    made_run(str(folder / "run"), folder / "seeds")
    return folder / "run"


@pytest.fixture(scope="module")
def tables(run):
    """Job and name of each table -> its artifact."""
    artifacts = {job: load_artifact(Folder(str(run / job))) for job in JOBS}
    return {(job, name): artifact for job, artifact in artifacts.items() for name in artifact.record.tables}


def card(folder):
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def test_every_table_has_equally_many_rows_in_every_reader(run, tables):
    assert len(tables) == 9
    for (job, name), artifact in tables.items():
        folder, rows = run / job / name, artifact.record.tables[name].rows
        assert len(pandas.read_parquet(folder)) == rows
        assert polars.scan_parquet(f"{folder}/").collect().height == rows
        assert pyarrow.dataset.dataset(folder).count_rows() == rows
        assert duckdb.sql(f"select count(*) from '{folder}/*.parquet'").fetchall() == [(rows,)]


def test_load_dataset_gives_the_splits_of_each_table(run, tables, tmp_path):
    configs = {(job, config["config_name"]) for job in JOBS for config in card(run / job)["configs"]}
    assert set(tables) - configs == {("prompts", "rejects")}  # it has no rows, and `datasets` loads no empty table
    for job, name in (("prompts", "holdout"), ("candidates", "candidates"), ("dataset", "examples")):  # a load takes seconds
        artifact = tables[job, name]
        loaded = datasets.load_dataset(str(run / job), name, cache_dir=str(tmp_path))
        assert sum(map(len, loaded.values())) == artifact.record.tables[name].rows
        assert set(loaded) == ({"train", "validation"} if name == "examples" else {"test"} if name == "holdout" else {"full"})
    assert {split: set(rows["split"]) for split, rows in loaded.items()} == {"train": {"train"}, "validation": {"validation"}}


def test_texts_units_and_closed_sets_are_in_every_file(run):
    [path] = (run / "candidates" / "candidates").glob("*.parquet")
    schema = pq.read_schema(path)
    assert schema.field("pool").metadata[b"description"] == b"where the answer goes"
    assert json.loads(schema.field("pool").metadata[b"values"])[0] == "train"
    assert schema.field("logprob").metadata[b"unit"] == b"nats"
    assert schema.field("score").metadata[b"nullable"] == b"true" and b"nullable" not in schema.field("answer").metadata
    assert schema.field("messages").type.value_type.field("role").metadata[b"description"] == b"system, user or assistant"
    metadata = pq.read_metadata(path).metadata
    texts = described(metadata)
    assert set(TABLES["candidates"].names) <= set(texts) and "messages.role" in texts
    assert json.loads(polars.read_parquet_metadata(path)[COLUMNS_KEY.decode()]) == texts
    [[found]] = duckdb.sql(f"select value from parquet_kv_metadata('{path}') where key = '{COLUMNS_KEY.decode()}'").fetchall()
    assert json.loads(found) == texts
    assert about(metadata)["schema_version"] == VERSION


def test_rows_in_memory_carry_no_texts(tables):
    rows = tables["dataset", "examples"].read("examples", EXAMPLE)
    assert not rows.schema.metadata and not any(field.metadata for field in rows.schema)
    assert documented(EXAMPLE, version=VERSION).equals(EXAMPLE)  # the same columns and types


def test_a_folder_of_a_table_holds_parquet_alone_and_the_rest_lies_above(run, tables):
    for job, name in tables:
        assert {path.suffix for path in (run / job / name).iterdir()} <= {".parquet"}


def test_the_readme_says_what_made_the_artifact_and_shards_do_not(run, tables):
    artifact = tables["dataset", "examples"]
    made = card(run / "dataset")["rayleigh"]
    assert made["fingerprint"] == artifact.fingerprint and made["recipe"] == artifact.record.fingerprint
    assert made["inputs"] == artifact.record.inputs
    assert made["tables"]["examples"]["digest"] == artifact.record.tables["examples"].digest
    for path in (run / "dataset" / "examples").iterdir():
        assert artifact.fingerprint.encode() not in path.read_bytes()


def test_documents_are_no_part_of_the_fingerprint(tables):
    artifact = tables["dataset", "examples"]
    assert [file.path for file in artifact.record.documents] == ["README.md"] and not artifact.record.files
    bare = artifact.record.model_copy(update={"documents": ()})
    assert type(artifact)(artifact.folder, bare).fingerprint == artifact.fingerprint


def test_the_same_run_twice_has_the_same_bytes(run, tmp_path):
    made_run(str(tmp_path / "run"), tmp_path / "seeds")
    names = [path.relative_to(run) for path in sorted(run.glob("*/*/*.parquet")) if path.relative_to(run).parts[0] in JOBS]
    assert names and all((run / name).read_bytes() == (tmp_path / "run" / name).read_bytes() for name in names)
