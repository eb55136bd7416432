"""The numbers of `make clinc`: rows of the published file, both shares, and the threshold that the validation split chooses."""

import json
from pathlib import Path

import pytest
from made_run import made_run

from engine.contract.load import load_contract
from engine.rows import PREDICTION, from_rows
from engine.runs.recipe import identify
from engine.storage.artifact import RowCounts
from jobs.bench.clinc import OUT_OF_SCOPE, Share, answered, best_threshold, main, prepare
from jobs.pipeline import pipeline

CONTRACTS = Path(__file__).parents[2] / "jobs" / "contracts" / "clinc"


@pytest.fixture
def published(tmp_path):
    pairs = {"train": [["a b", "exchange_rate"], ["c", "timer"]], "val": [["d", "timer"]], "test": [["e", "timer"]]}
    outside = {f"oos_{split}": [[f"odd {split}", "oos"]] for split in ("train", "val", "test")}
    (tmp_path / "data_full.json").write_text(json.dumps(pairs | outside))
    return tmp_path


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_of_the_published_file_become_sources(published, tmp_path):
    prepare(published, tmp_path / "out")
    train, held = rows(tmp_path / "out" / "train.jsonl"), rows(tmp_path / "out" / "holdout.jsonl")
    assert [row["reference"] for row in train] == ["exchange rate", "timer", OUT_OF_SCOPE]
    assert [(row["split"], row["layer"]) for row in held] == [
        (s, layer) for s in ("val", "test") for layer in ("core", "long_tail")
    ]
    prepare(published, tmp_path / "out", 1)
    assert [row["input"] for row in rows(tmp_path / "out" / "train.jsonl")] == ["a b", "odd train"]


def test_folder_without_the_file_is_named(tmp_path, capsys):
    assert main(["prepare", str(tmp_path), str(tmp_path / "out")]) == 1
    assert "data_full.json: cannot be read" in capsys.readouterr().err
    assert main(["score"]) == 1 and "usage:" in capsys.readouterr().err


def row(reference, answer, confidence, split="val"):
    return {"reference": reference, "answer": answer, "confidence": confidence, "scenario": split}


ROWS = [
    row("a", "a", 0.9),
    row("b", "b", 0.8),
    row("c", "a", 0.7),
    row(OUT_OF_SCOPE, "a", 0.4),
    row(OUT_OF_SCOPE, OUT_OF_SCOPE, 0.9),
]


def test_shares_count_answers_below_the_threshold_as_out_of_scope():
    seen = answered(ROWS)
    assert seen.shares() == (Share(2, 3), Share(1, 2))
    assert seen.shares(0.5) == (Share(2, 3), Share(2, 2)) and seen.shares(0.85) == (Share(1, 3), Share(2, 2))


def test_threshold_is_the_best_one_of_the_validation_split():
    assert 0.4 < best_threshold(answered(ROWS)) <= 0.7
    assert best_threshold(answered([])) == 0.0


def test_score_prints_each_model_beside_the_paper(tmp_path, capsys):
    work = made_run(str(tmp_path / "run"), tmp_path / "seeds")
    [job] = [job for job in pipeline(work.contract) if job.name == "reports"]
    context = work.context(job, log=print, progress=print)
    context.writer.clear()
    table = [{**each, "model": "s", "scenario": split} for split in ("val", "test") for each in ROWS]
    context.writer.put("predictions", from_rows(table, PREDICTION), PREDICTION)
    context.writer.finish(identify(context), RowCounts(1, {"stop": 1}))
    assert main(["score", str(tmp_path / "run")]) == 0
    text = capsys.readouterr().out
    assert "66.7 (20.8 to 93.9)" in text and "as it answers" in text and "100.0 (34.2 to 100.0)" in text and "52.3" in text


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_contracts_load(name):
    contract = load_contract(CONTRACTS / f"{name}.yaml").contract
    assert contract.name == f"clinc-{name}" and pipeline(contract)
