"""Answers go out to a person in several forms, and what comes back is checked, kept, and asks for another dataset."""

import csv
import json

import pytest
from made_run import ANSWERS, made_run
from typer.testing import CliRunner

from engine.contract.judges import GoldItem
from engine.errors import RecipeMismatch
from engine.rows import CANDIDATE, EXAMPLE, PICKED, from_rows
from engine.runs.job import is_finished
from engine.runs.recipe import identify
from engine.storage.artifact import RowCounts, load_artifact
from jobs.cli import app
from jobs.commands import review_files
from jobs.pipeline import pipeline
from jobs.steps import labels

FIRST, SECOND, THIRD = "eeee5555", "eeee5566", "ffff6666"


@pytest.fixture
def work(tmp_path):
    return made_run(str(tmp_path / "run"), tmp_path)


def ask(*words, code=0):
    result = CliRunner().invoke(app, ["review", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def label(tmp_path, *rows, name="labels.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(dict(zip(("answer_id", "label", "correction"), row, strict=False))) + "\n" for row in rows))
    return path


def of_run(work, name):
    job = next(job for job in pipeline(work.contract) if job.name == name)
    return work.context(job, log=print, progress=print)


def test_csv_holds_the_pool_and_comes_back_with_labels(work, tmp_path):
    out = tmp_path / "out" / "contrast.csv"
    assert json.loads(ask("export", work.folder, out, "--pool", "contrast", "--json"))["rows"] == 1
    with out.open(newline="") as file:
        [row] = csv.DictReader(file)
    assert (row["answer_id"], row["answer"], row["faults"], row["label"]) == (SECOND, "3", "ungrounded: 3", "")
    with out.open("w", newline="") as file:
        table = csv.DictWriter(file, list(row))
        table.writeheader()
        table.writerow(row | {"label": "corrected", "correction": "2"})
    found = json.loads(ask("import", work.folder, out, "--json"))
    assert (found["new"], found["labels"]) == (1, {"right": 0, "wrong": 0, "corrected": 1})
    again = tmp_path / "again.csv"
    ask("export", work.folder, again, "--pool", "contrast")
    assert "corrected,2" in again.read_text()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\ttab", "'=1", "''-", "plain", "'tis", ""])
def test_no_cell_of_a_csv_is_a_formula_and_each_comes_back_as_it_was(text):
    cell = review_files.safe(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert review_files.unsafe(cell) == text


def test_formula_in_an_answer_is_neutralised_in_the_file(tmp_path):
    row = dict.fromkeys(review_files.COLUMNS, "") | {"answer_id": "a", "input": '=HYPERLINK("http://x")', "answer": "-5"}
    review_files.write_csv(tmp_path / "out.csv", [row])
    assert "\n=" not in (text := (tmp_path / "out.csv").read_text()) and "\"'=HYPERLINK" in text and ",'-5," in text
    with (tmp_path / "out.csv").open("a") as file:
        file.write("," * (len(row) - 1) + "\n")  # as a spreadsheet does below the table
    [(where, back)] = review_files.read(tmp_path / "out.csv")
    assert (where, back["input"], back["answer"]) == ("line 2", row["input"], "-5")


def test_argilla_folder_is_the_one_that_it_reads_and_its_responses_come_back(work, tmp_path):
    out = tmp_path / "toy review"
    ask("export", work.folder, out, "--format", "argilla", "--pool", "train")
    assert json.loads((out / ".argilla" / "dataset.json").read_text()) == {"name": "toy-review"}
    settings = json.loads((out / ".argilla" / "settings.json").read_text())
    assert [one["name"] for one in settings["fields"]] == ["input", "answer"]
    assert [(one["name"], one["settings"]["type"]) for one in settings["questions"]] == [
        ("label", "label_selection"),
        ("correction", "text"),
    ]
    records = json.loads((out / "records.json").read_text())
    assert [record["id"] for record in records] == [FIRST, THIRD]
    assert {field for record in records for field in record} == {"id", "fields", "metadata", "suggestions", "responses", "vectors"}
    records[0]["responses"] = {"label": [{"value": "wrong", "user_id": "u"}, {"value": "wrong", "user_id": "v"}]}
    (out / "records.json").write_text(json.dumps(records))
    found = json.loads(ask("import", work.folder, out, "--json"))
    assert (found["new"], found["open"]) == (1, 1) and labels.read(work.folder)[FIRST]["label"] == "wrong"


def test_annotators_that_disagree_are_named(work, tmp_path):
    said = [{"value": "wrong", "user_id": "u"}, {"value": "right", "user_id": "v"}]
    (tmp_path / "records.json").write_text(json.dumps([{"id": FIRST, "responses": {"label": said}}]))
    assert f"found labels ['right', 'wrong'] of {FIRST}" in ask("import", work.folder, tmp_path / "records.json", code=1)


def test_import_again_changes_nothing(work, tmp_path):
    file = label(tmp_path, (FIRST, "right"), (SECOND, "wrong"))
    ask("import", work.folder, file)
    kept = work.folder.read("review/labels.jsonl")
    dataset = made_run(str(tmp_path / "run"), tmp_path) and load_artifact(work.folder / "dataset")
    found = json.loads(ask("import", work.folder, file, "--json"))
    assert (found["same"], found["new"], found["removed"]) == (2, 0, False)
    assert work.folder.read("review/labels.jsonl") == kept and dataset is not None
    assert json.loads(ask("import", work.folder, label(tmp_path, (FIRST, "wrong")), "--json"))["changed"] == 1


def test_import_makes_the_dataset_be_made_anew_and_what_was_made_from_it_stale(work, tmp_path):
    assert is_finished(of_run(work, "dataset"))
    said = ask("import", work.folder, label(tmp_path, (FIRST, "right")))
    assert "rayleigh run" in said and "--until dataset" in said
    assert not is_finished(of_run(work, "dataset")) and is_finished(of_run(work, "candidates"))


def test_labels_that_changed_behind_the_dataset_are_named_as_drift(work):
    labels.write(work.folder, {FIRST: {"answer_id": FIRST, "label": "right", "correction": ""}})
    with pytest.raises(RecipeMismatch, match=r"review/labels\.jsonl: null -> "):
        is_finished(of_run(work, "dataset"))


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (("nobody", "right"), "nobody: found no answer with this id"),
        ((FIRST, "good"), "line 1: label: found 'good', expected one of right, wrong, corrected, or nothing"),
        (("", "right"), "line 1: answer_id: found none"),
        ((FIRST, "corrected"), "found '' with label corrected"),
        ((FIRST, "right", "3"), "found '3' with label right"),
        ((FIRST, "corrected", " 2 "), "is the answer itself"),
    ],
)
def test_labels_that_do_not_fit_are_refused_and_nothing_is_kept(work, tmp_path, row, complaint):
    assert complaint in ask("import", work.folder, label(tmp_path, row, (SECOND, "wrong")), code=1)
    assert labels.read(work.folder) == {} and load_artifact(work.folder / "dataset") is not None


def test_correction_must_fit_the_schema_of_its_task_unit(work, tmp_path):
    raw = json.loads(work.folder.read("run.json"))
    raw["contract"]["specialist"]["task_units"][0]["output"] = {"json_schema": {"type": "integer"}}
    work.folder.write("run.json", json.dumps(raw).encode())
    assert "off_schema" in ask("import", work.folder, label(tmp_path, (FIRST, "corrected", '"two"')), code=1)
    ask("import", work.folder, label(tmp_path, (FIRST, "corrected", "3")))


def test_labels_of_answers_that_are_gone_are_kept_and_left_out(work):
    labels.write(work.folder, {key: {"answer_id": key, "label": "right", "correction": ""} for key in ("gone", SECOND, FIRST)})
    assert labels.table(of_run(work, "dataset"))["answer_id"].to_pylist() == [FIRST, SECOND]
    assert set(labels.read(work.folder)) == {"gone", FIRST, SECOND}


def test_a_label_said_twice_otherwise_is_refused(work, tmp_path):
    assert "another label earlier" in ask("import", work.folder, label(tmp_path, (FIRST, "right"), (FIRST, "wrong")), code=1)


@pytest.mark.parametrize("name", ["nothing.jsonl", "labels.xlsx", "labels.csv.zip"])
def test_file_that_cannot_be_read_is_named(work, tmp_path, name):
    assert "expected a .csv or .jsonl file" in ask("import", work.folder, tmp_path / name, code=1)


def test_damaged_file_is_named(work, tmp_path):
    (tmp_path / "labels.jsonl").write_text("{")
    assert "cannot be read" in ask("import", work.folder, tmp_path / "labels.jsonl", code=1)


def test_labelled_answers_become_gold_items(work, tmp_path):
    ask("import", work.folder, label(tmp_path, (FIRST, "right"), (SECOND, "corrected", "2"), (THIRD, "wrong")))
    ask("export", work.folder, tmp_path / "gold.jsonl", "--format", "gold")
    items = [GoldItem.model_validate_json(one) for one in (tmp_path / "gold.jsonl").read_text().splitlines()]
    assert [(item.answer, item.label) for item in items] == [("2", "right"), ("3", "wrong"), ("2", "right"), ("6", "wrong")]
    assert [item.author for item in items] == ["t", "t", "", "t"]
    assert {item.group for item in items} == {"aaaa1111"}  # the second prompt was made from the first
    assert [item.samples for item in items[::3]] == [{"t": ("2",)}, {"t": ("6",)}]  # without the one that failed a check


def test_export_spares_what_is_there_and_names_what_it_does_not_know(work, tmp_path):
    (tmp_path / "there.csv").write_text("mine")
    assert "found a file or folder" in ask("export", work.folder, tmp_path / "there.csv", code=1)
    assert "expected one of train, hard" in ask("export", work.folder, tmp_path / "x.csv", "--pool", "sea", code=1)
    assert "expected one of csv, jsonl" in ask("export", work.folder, tmp_path / "x.csv", "--format", "xls", code=1)
    assert (tmp_path / "there.csv").read_text() == "mine" and not (tmp_path / "x.csv").exists()


def rebuilt(work, name, tables, row_counts):
    """Put another artifact in the place of the job `name`, by the same recipe."""
    context = of_run(work, name)
    for title, (rows, schema) in tables.items():
        context.writer.put(title, from_rows(rows, schema), schema)
    context.writer.finish(identify(context), row_counts)


def trace(work, wanted):
    result = CliRunner().invoke(app, ["trace", str(work.folder), wanted, "--json"], catch_exceptions=False)
    return json.loads(result.stdout)


def test_trace_of_an_answer_made_of_others_shows_them_all(work):
    made = {**ANSWERS[0], "answer_id": "abab7777", "teacher": "", "parents": [FIRST, SECOND], "relation": "complementary"}
    rebuilt(work, "candidates", {"candidates": ([*ANSWERS, made], CANDIDATE)}, RowCounts(4, {"train": 3, "contrast": 1}))
    found = trace(work, "abab7777")
    assert [one["candidate"]["answer_id"] for one in found["parents"]] == [FIRST, SECOND]
    assert {one["source"]["line"] for one in found["parents"]} == {7}
    assert trace(work, FIRST)["parents"] == []


def test_trace_of_a_correction_shows_the_person_and_what_was_corrected(work):
    corrected = {**ANSWERS[1], "judge": "person", "reasons": ["person_corrected"], "dropped_by": "pool"}
    written = {**corrected, "answer_id": "cdcd8888", "answer": "2", "pool": "train", "parents": [SECOND], "dropped_by": ""}
    example = {**written, "example_id": "cdcd8888", "target": "2", "split": "train", "kind": "answer"}
    shown = {**corrected, "example_id": f"{SECOND}-contrast", "target": "No.", "split": "train", "kind": "contrast"}
    examples = [{name: row.get(name) for name in EXAMPLE.names} for row in (example, shown)]
    rebuilt(work, "dataset", {"picked": ([corrected, written], PICKED), "examples": (examples, EXAMPLE)}, RowCounts(2, {"a": 2}))
    found = trace(work, "cdcd8888")
    assert (found["candidate"]["answer"], found["example"]["target"]) == ("2", "2")
    assert [one["candidate"]["answer_id"] for one in found["parents"]] == [SECOND]
    wrong = trace(work, SECOND)
    assert wrong["label"] == {"pool": "contrast", "reasons": ["person_corrected"]}
    assert wrong["candidate"]["reasons"] == ["ungrounded"]  # what the run itself had found
    assert trace(work, f"{SECOND}-contrast") == wrong
    assert wrong["derived"] == [{"kind": "contrast", "target": "No.", "split": "train"}]
    assert trace(work, "small")["examples"]  # a student that learnt what a person wrote
