"""Two runs that differ in one threshold: the comparison says exactly that, and what moved because of it."""

import re

import pytest
from threshold_runs import CONFIDENCES, HELD, threshold_run
from typer.testing import CliRunner

from engine.comparison.keys import key_changes
from engine.records.comparison import Comparison, KeyChange
from jobs.cli import app
from jobs.commands.compare import compare
from jobs.commands.compare_text import as_text

LOW, HIGH = 0.3, 0.6
MOVED = [key for key, sure in CONFIDENCES.items() if LOW <= sure < HIGH]


def examples(threshold):
    return sum(any(CONFIDENCES[number, sample] >= threshold for sample in range(2)) for number in range(40))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    made = {"low": (LOW, ""), "high": (HIGH, ""), "again": (LOW, ""), "other": (LOW, " or so")}
    return {
        name: str(threshold_run(str(folder / "runs" / name), folder / "seeds", each, other=other).folder)
        for name, (each, other) in made.items()
    }


@pytest.fixture(scope="module")
def pair(runs):
    [found] = compare([runs["low"], runs["high"]]).pairs
    return found


def test_contract_differs_in_the_threshold_alone(pair):
    assert pair.contract == (KeyChange(key="judges.accept.confidence", before=LOW, after=HIGH),)
    assert pair.summary[0] == "The contracts differ in one key: judges.accept.confidence 0.3 -> 0.6."


def test_every_change_is_led_back_to_it(pair):
    assert {job.job: (job.state, job.because) for job in pair.jobs if job.state != "in neither"} == {
        "prompts": ("same", ()),
        "candidates": ("changed", ("judges.accept.confidence",)),
        "dataset": ("changed", ("candidates",)),
        "students/small": ("changed", ("dataset",)),
        "students/large": ("changed", ("dataset",)),
        "reports": ("changed", ("candidates", "dataset", "students/large", "students/small")),
    }
    assert "candidates changed because of judges.accept.confidence." in pair.summary
    assert "What was made from it changed, too: dataset, students/small, students/large, reports." in pair.summary
    assert pair.summary[-1] == "The same in both: prompts, answers."


def test_summary_has_a_sentence_for_what_moved_and_no_other(pair):
    beginnings = (
        "The contracts differ in one key", "candidates changed because of", "What was made from it changed, too",
        f"Pools: {len(MOVED)} from train to review.", f"Dataset: {examples(LOW) - examples(HIGH)} went out",
        "Student small: exact match", "The gate on small: pass -> refuse", "Student large: exact match",
        "The gate on large: pass -> refuse", "The gate chooses no student", "The same in both: prompts, answers.",
    )  # fmt: skip
    assert len(pair.summary) == len(beginnings)
    assert all(map(str.startswith, pair.summary, beginnings)), pair.summary
    assert pair.costs.paid[0] == pair.costs.paid[1]


def test_answers_between_the_thresholds_moved_and_no_other(pair):
    [shift] = pair.pools.shifts
    assert (shift.before, shift.after, shift.rows) == ("train", "review", len(MOVED))
    assert (shift.reasons_before, shift.reasons_after) == (("accepted",), ("low_confidence",))
    assert shift.confidence == pytest.approx((min(CONFIDENCES[key] for key in MOVED), max(CONFIDENCES[key] for key in MOVED)))
    assert pair.pools.before["train"] - pair.pools.after["train"] == len(MOVED)
    assert (pair.answers.same, pair.answers.other) == (len(CONFIDENCES), 0)
    assert pair.prompts.shifts == () and pair.prompts.both == 40


def test_dataset_lost_the_examples_that_lost_their_answer(pair):
    out = examples(LOW) - examples(HIGH)
    assert (pair.dataset.before, pair.dataset.after) == (examples(LOW), examples(HIGH))
    changed = 1  # prompt 7, whose first answer is below the higher threshold, and whose second is another
    assert (pair.dataset.out, pair.dataset.into, pair.dataset.changed) == (out, 0, changed)
    assert pair.dataset.same == examples(HIGH) - changed
    places = {(shift.before, shift.after): shift.rows for shift in pair.dataset.shifts}
    assert places["picked", "pool review"] >= out and sum(places.values()) >= out


def test_students_are_paired_on_the_holdout(pair):
    models = {model.name: model for model in pair.models.models}
    assert pair.models.prompts == (len(HELD), len(HELD), len(HELD))
    large = models["large"]
    lost = sum(examples(HIGH) <= number % 40 < examples(LOW) for number in range(len(HELD)))
    assert (large.gained, large.lost) == (0, lost) and large.difference.value == pytest.approx(-lost / len(HELD), abs=1e-6)
    assert large.difference.low < large.difference.value < large.difference.high < 0 and large.differs
    assert models["t"].difference.value == 0 and not models["t"].differs


def test_equal_runs_differ_in_nothing(runs):
    [found] = compare([runs["low"], runs["again"]]).pairs
    assert found.summary == ("The contracts are the same.", "The same in both: prompts, answers, pools, dataset.")
    assert {job.state for job in found.jobs} <= {"same", "in neither"}


def test_other_answers_of_the_same_recipe_are_shown_and_named(runs):
    first, second = compare([runs["low"], runs["high"], runs["other"]]).pairs
    assert first.after == "high" and second.contract == ()
    assert (second.answers.other, second.answers.teachers["t"]) == (2, (len(CONFIDENCES) - 2, 2))
    assert [(each.before, each.after) for each in second.answers.examples] == [("5", "5 or so")] * 2
    assert any(sentence.startswith("candidates: the same recipe made something else") for sentence in second.summary)
    assert (second.dataset.changed, second.dataset.into, second.dataset.out) == (1, 0, 0)


def test_text_json_and_page_of_the_command(runs, pair, tmp_path):
    page = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["compare", runs["low"], runs["other"], "--json", "--page", str(page)], catch_exceptions=False)
    assert Comparison.model_validate_json(result.stdout).pairs[0].answers.other == 2
    text = as_text(compare([runs["low"], runs["high"]]))
    assert re.search(r"judges\.accept\.confidence +0\.3 +0\.6\n", text)
    assert re.search(rf"train +review +{len(MOVED)} +accepted +low_confidence +0\.\d\d to 0\.\d\d", text)
    assert re.search(r"large +student .* -0\.\d+ \(-0\.\d+ to -0\.\d+\)", text)


def test_page_is_self_contained_and_escapes_text(runs, tmp_path):
    page = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["compare", runs["low"], runs["high"], "--page", str(page)], catch_exceptions=False)
    html = page.read_text()
    assert f"page     {page}" in result.stdout
    assert "judges.accept.confidence" in html and "<mark>" in html
    assert "&lt;script&gt;alert(1)" in html and "<script" not in html and "<img" not in html
    assert not re.search(r"(src|href)=[\"']?(https?:|//)", html) and "default-src 'none'" in html


@pytest.mark.parametrize("names", [("low",), ("low", "low")])
def test_one_run_alone_and_one_twice_are_refused(runs, names):
    result = CliRunner().invoke(app, ["compare", *(runs[name] for name in names)])
    assert result.exit_code == 1 and "expected" in result.stderr


def test_page_that_is_no_html_file_is_refused(runs, tmp_path):
    result = CliRunner().invoke(app, ["compare", runs["low"], runs["high"], "--page", str(tmp_path)])
    assert result.exit_code == 1 and "ends in .html" in result.stderr


def changed(before, after):
    return [(change.key, change.before, change.after) for change in key_changes(before, after)]


def test_items_of_lists_are_compared_by_name():
    old = {"models": [{"name": "a", "n": 1}, {"name": "b", "n": 1}], "pools": ["x"]}
    new = {"models": [{"name": "c", "n": 3}, {"name": "b", "n": 2}, {"name": "a", "n": 1}], "pools": ["x", "y"]}
    assert changed(old, new) == [
        ("models.b.n", 1, 2), ("models.c", None, {"name": "c", "n": 3}), ("pools", ["x"], ["x", "y"]),
    ]  # fmt: skip


def test_items_without_names_are_compared_by_number():
    assert changed({"a": [{"x": 1}, {"x": 2}]}, {"a": [{"x": 1}, {"x": 3}]}) == [("a.1.x", 2, 3)]
    assert changed({"a": [{"name": "s"}, {"name": "s"}]}, {"a": [{"name": "s"}, {"name": "s"}]}) == []
