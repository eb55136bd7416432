"""The numbers of `make clinc`: rows of the published file, both shares, and the threshold that the validation split chooses."""

import json
from pathlib import Path

import pytest
from made_run import ANSWERS, made_run

from engine.contract.load import load_contract
from engine.rows import CANDIDATE, PREDICTION, from_rows
from engine.runs.recipe import identify
from engine.storage.artifact import RowCounts
from jobs.bench.clinc import OUT_OF_SCOPE, RULES, Share, agreements, answered, best_threshold, main, prepare
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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: [found], "found a JSON list, expected an object of splits"),
        (lambda found: {name: rows for name, rows in found.items() if name != "oos_train"}, "oos_train: found nothing, expected"),
        (lambda found: found | {"val": {"d": "timer"}}, 'val: found {"d": "timer"}, expected a list of requests'),
        (lambda found: found | {"val": []}, "val: found [], expected a list of requests"),
        (lambda found: found | {"test": [["a"], ["b", "timer"]]}, 'test[0]: found ["a"], expected [request, intent]'),
        (lambda found: found | {"oos_test": [["a", "oos"], ["b", 3]]}, 'oos_test[1]: found ["b", 3], expected [request, intent]'),
    ],
)
def test_file_of_another_form_is_named_and_nothing_is_written(published, tmp_path, capsys, change, said):
    file = published / "data_full.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    assert main(["prepare", str(published), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert said in error and "data_full.json" in error and "github.com/clinc/oos-eval" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("count", ["0", "x", "-1", "1.5"])
def test_rows_are_a_number_above_0(published, tmp_path, capsys, count):
    assert main(["prepare", str(published), str(tmp_path / "out"), count]) == 1
    assert f"ROWS: found '{count}', expected a number above 0" in capsys.readouterr().err


def test_folder_that_cannot_be_written_is_an_error(published, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["prepare", str(published), str(tmp_path / "file")]) == 1 and "cannot be written" in capsys.readouterr().err


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
    for rule in RULES:
        assert 0.4 < best_threshold(answered(ROWS), rule) <= 0.7
        assert best_threshold(answered([]), rule) == 0.0


def test_threshold_of_the_paper_counts_every_request_alike():
    """Ten in scope and one out of scope: a threshold of 0.5 finds it, and loses two that are right."""
    inside = [row("a", "a", 0.45), row("a", "a", 0.46), *[row("a", "a", 0.9)] * 8]
    validation = answered([*inside, row(OUT_OF_SCOPE, "a", 0.47)])
    assert best_threshold(validation) == 0.0 and 0.47 < best_threshold(validation, "balanced") <= 0.9


def write(work, name, rows, schema, table=""):
    [job] = [job for job in pipeline(work.contract) if job.name == name]
    context = work.context(job, log=print, progress=print)
    context.writer.clear()
    context.writer.put(table or name, from_rows(rows, schema), schema)
    context.writer.finish(identify(context), RowCounts(1, {"stop": 1}))


def test_score_prints_each_model_beside_the_paper(tmp_path, capsys):
    work = made_run(str(tmp_path / "run"), tmp_path / "seeds")
    table = [{**each, "model": "s", "scenario": split} for split in ("val", "test") for each in ROWS]
    write(work, "reports", table, PREDICTION, "predictions")
    assert main(["score", str(tmp_path / "run")]) == 0
    text = capsys.readouterr().out
    assert "66.7 (20.8 to 93.9)" in text and "as it answers" in text and "100.0 (34.2 to 100.0)" in text and "52.3" in text
    assert "threshold, accuracy: 0.7" in text and "our own rule, not the paper's" in text and "sequence distillation" in text
    assert "people's labels" not in text  # no run has them


def test_agreement_of_a_teacher_with_the_labels_of_another_run_is_printed(tmp_path):
    runs = [str(tmp_path / name) for name in ("teacher", "student")]
    for run, labels in zip(runs, ("2", None), strict=True):
        work = made_run(run, tmp_path / "seeds")
        write(work, "candidates", [{**answer, "reference": labels} for answer in ANSWERS], CANDIDATE)
    assert list(agreements(runs)) == [f"{runs[1]}: 33.3 % of its teacher's 3 answers to training requests are people's labels."]
    assert list(agreements(runs[1:])) == []


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_contracts_load(name):
    contract = load_contract(CONTRACTS / f"{name}.yaml").contract
    assert contract.name == f"clinc-{name}" and pipeline(contract)
    assert contract.evaluation.cluster == "none"  # the scenario is the published split: as clusters there would be two
