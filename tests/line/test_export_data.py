"""Exports, opened by the programs that read them: datasets and TRL."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from threshold_runs import threshold_run

from jobs.commands.export_data import Order, export
from jobs.commands.sql import Views


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("export")
    return str(threshold_run(str(root / "runs" / "one"), root / "seeds", 0.3).folder)


def test_datasets_reads_the_splits_of_the_hub_folder(run, tmp_path):
    from datasets import load_dataset

    result = export(run, str(tmp_path / "out"), Order("hf"))
    loaded = load_dataset(str(tmp_path / "out"), "examples", cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == result.rows
    assert loaded["train"][0]["messages"][-1]["role"] == "user" and loaded["train"][0]["licence"]


def test_trl_takes_messages_as_conversations(run, tmp_path):
    from datasets import load_dataset
    from trl import is_conversational

    export(run, str(tmp_path / "out"), Order("messages"))
    files = {split: str(tmp_path / "out" / f"{split}.jsonl") for split in ("train", "validation")}
    loaded = load_dataset("json", data_files=files, cache_dir=str(tmp_path / "cache"))
    counts = {row["split"]: row["n"] for row in Views(run).rows("select split, count(*) as n from examples group by 1")}
    assert {split: len(rows) for split, rows in loaded.items()} == counts
    assert is_conversational(loaded["train"][0])
