"""The reports step and `rayleigh report` on a finished run: costs, copies, label noise, and results of `rayleigh ablate`."""

import json

import pytest
from made_run import ANSWERS, made_run

from engine.contract.budget import Price
from engine.contract.capture import Capture
from engine.contract.contract import Contract
from engine.contract.models import EndpointModel
from engine.contract.teachers import Teacher
from engine.evaluation.evaluator import Evaluated
from engine.evaluation.size import ModelSize
from engine.inference.engine import Completion
from engine.inference.token_budget import JUDGE_TOKENS, TEACHER_TOKENS, TokenBudget, TokenUsage
from engine.records.capture import CaptureMetrics
from engine.records.curve import LearningCurve
from engine.records.record import Identity
from engine.records.report import Report
from engine.runs.recipe import identify
from engine.storage.artifact import RowCounts
from jobs.commands import summary
from jobs.pipeline import pipeline
from jobs.steps import labels, reports, worth

SIZES = {"t": ModelSize(200, 4, weight_bytes=400), "small": ModelSize(50, 1), "large": ModelSize(100, 2)}


def evaluate(targets, rows, profile, *, timed, progress, kept):
    """In place of engines on Ray: every answer is right and takes as long as the model is large."""
    for target in targets:
        answers = [Completion(row["reference"], "stop", 10, 1) for row in rows]
        yield Evaluated(answers, dict.fromkeys(range(len(rows)), SIZES[target.name].parameters / 100), size=SIZES[target.name])


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A finished run whose reports are made by the step; and a function that makes them again."""
    work = made_run(str(tmp_path / "run"), tmp_path / "seeds")
    monkeypatch.setattr(reports.flow, "evaluate", evaluate)

    def again(**changes):
        contract = work.contract.model_copy(update=changes)
        job = next(job for job in pipeline(contract) if job.name == "reports")
        context = type(work)(**{**vars(work), "contract": contract}).context(job, log=lambda text: None, progress=lambda text: None)
        (work.folder / "reports").remove()
        context.writer.finish(identify(context), reports.run(context))
        return summary.report(work.folder.url)

    return work, again


def test_report_says_what_the_run_cost_and_what_a_request_saves(made):
    work, again = made
    TokenBudget(work.folder / "ledger" / JUDGE_TOKENS, None).add("rubric", TokenUsage(1, 1000, 100))
    found = again().worth
    # 3 answers of 10 and 2 tokens and half a second; a machine second costs 0.001, tokens 100 and 1000 a million
    assert found.cost.teachers == pytest.approx(3 * (0.001 + 0.002 + 0.0005)) and found.cost.judges == pytest.approx(0.2)
    assert found.cost.labels == 0 and found.cost.total == pytest.approx(0.2105) and found.cost.currency == "EUR"
    [small, large] = found.paybacks
    # one prompt: the teacher takes 2 s and 0.002 of tokens, the students half a second and a second
    assert small.saving_per_1000.value == pytest.approx(3.5) and large.saving_per_1000.value == pytest.approx(3.0)
    assert small.break_even == pytest.approx(0.2105 / 0.0035, abs=0.1) and small.months is None
    assert found.sizes == ("large", "small") and found.capacity.value == 0
    capacity = next(each for each in found.signals if each.name == "capacity")
    assert not capacity.fired and capacity.number.high == 3  # one prompt on which they do not differ shows nothing
    assert found.decompositions[0].both_right.count == 1


def captured(work, **tokens):
    """Write an artifact `capture` for which each teacher read so many tokens."""
    contract = work.contract.model_copy(update={"capture": Capture()})
    job = next(job for job in pipeline(contract) if job.name == "capture")
    context = type(work)(**{**vars(work), "contract": contract}).context(job, log=lambda text: None, progress=lambda text: None)
    of = {"examples": 1, "masked": 0, "target_tokens": 1, "agreement": 1.0, "mean_k": 1.0, "mean_tail": 0.0, "bytes_per_token": 1.0}
    metrics = {name: {**of, "tokens_read": read} for name, read in tokens.items()}
    context.writer.clear()
    context.writer.metrics = CaptureMetrics.model_validate(
        {"constraint": "none", "gate": "none", "tokens_paid": 0, "teachers": metrics}
    )
    context.writer.finish(Identity("capture", {}, {}, "f"), RowCounts(0, {}))


def test_what_reads_for_a_capture_has_the_price_of_its_teacher_and_what_has_none_is_named(made):
    work, again = made
    usage = TokenBudget(work.folder / "ledger" / TEACHER_TOKENS, None)
    for payee in ("capture", "rewrite", "on_policy"):
        usage.add(payee, TokenUsage(4, 1_000_000, 0))
    dear = {"t": {"per_1m_in": 8.0}, "u": {"per_1m_in": 2.0}}
    price = Price.model_validate({"currency": "EUR", "per_machine_hour": 0, "teachers": dear})
    budget = work.contract.budget.model_copy(update={"price": price})
    model = EndpointModel(type="endpoint", url="http://h/v1", path="m")
    teachers = work.contract.teachers.model_copy(update={"models": (Teacher(name="t", model=model),)})
    cost = again(budget=budget, teachers=teachers).worth.cost
    assert cost.derived == 0 and "tokens of rewrite, capture, as budget.price.tokens is 0" in cost.without
    assert {"tokens of teachers that score on-policy samples", "answers to the holdout of t"} <= set(cost.without)
    captured(work, t=30, u=10)
    cost = again(budget=budget).worth.cost
    assert cost.derived == pytest.approx(0.75 * 8 + 0.25 * 2) and "tokens of rewrite, as budget.price.tokens is 0" in cost.without
    free = price.model_copy(update={"teachers": {}})  # of models on own machines
    found = again(budget=work.contract.budget.model_copy(update={"price": free})).worth.cost.without
    assert not any("budget.price" in each for each in found)


def test_labels_of_persons_have_a_price_and_tell_the_noise(made, monkeypatch):
    work, again = made
    names = [answer["answer_id"] for answer in ANSWERS]
    marks = dict(zip(names, ("right", "wrong", "wrong"), strict=True))
    labels.write(work.folder, {name: {"answer_id": name, "label": mark, "correction": ""} for name, mark in marks.items()})
    price = work.contract.budget.price.model_copy(update={"per_label": 0.5})
    found = again(budget=work.contract.budget.model_copy(update={"price": price})).worth
    assert found.cost.num_labels == 3 and found.cost.labels == 1.5
    assert found.label_noise is None  # two labels of accepted answers are too few
    monkeypatch.setattr(worth.intervals, "MIN_VALUES", 2)
    found = again().worth
    assert found.label_noise.source == "persons" and found.label_noise.share.value == 0.5  # the answer in `contrast` is not learnt


def test_copies_among_prompts_are_counted(made):
    _, again = made
    found = again().worth
    assert (found.copies.source, found.copies.copies, found.copies.prompts) == ("sources", 1, 3)


CURVE = {
    "run": "r", "student": "small", "seeds": 3, "epochs": 1, "prompts": 9, "clusters": 9, "level": 0.95, "points": [],
    "law": "power", "exponent": 0.3, "next_examples": 4, "next_gain": {"value": 0.1, "low": 0.05, "high": 0.2}, "flattening": None,
}  # fmt: skip


def test_curve_that_is_newer_than_the_report_is_shown_and_the_page_is_called_old(made):
    work, again = made
    report = again()
    assert report.worth.curve is None and "no curve" not in summary.text(work.folder.url, report)
    dataset = (work.folder / "dataset").read("record.json")
    fingerprint = json.loads((work.folder / "reports").read("record.json"))["inputs"]["dataset"]
    work.folder.write("ablation/curve.json", json.dumps({**CURVE, "dataset": "of another dataset"}).encode())
    assert summary.report(work.folder.url).worth.curve is None
    curve = LearningCurve.model_validate({**CURVE, "dataset": fingerprint})
    work.folder.write("ablation/curve.json", curve.model_dump_json().encode())
    newer = summary.report(work.folder.url)
    assert newer.worth.curve == curve and newer.worth.signals != report.worth.signals
    text = summary.text(work.folder.url, newer)
    assert "the page is older than these numbers" in text and "next     " in text and "return   small saves 3.5" in text
    assert "cost     0.0105 EUR in all" in text
    assert again().worth.curve == curve and "is older" not in summary.text(work.folder.url, summary.report(work.folder.url))
    assert dataset == (work.folder / "dataset").read("record.json")


def test_older_report_says_nothing_of_it(made):
    work, again = made
    report = again()
    older = report.model_copy(update={"worth": None})
    (work.folder / "reports").write("report.json", older.model_dump_json().encode())
    assert summary.report(work.folder.url) == Report.model_validate(older.model_dump())
    assert "cost " not in summary.text(work.folder.url, older).replace("cost each", "")


def test_new_keys_are_left_out_of_recipes_while_they_have_their_defaults(made):
    work, _ = made
    dump = work.contract.model_dump(mode="json")
    assert "per_label" not in dump["budget"]["price"] and "worth" not in dump["evaluation"]
    assert "traffic" not in dump["specialist"]["niche"]
    changed = json.loads(json.dumps(dump))
    changed["budget"]["price"]["per_label"], changed["evaluation"]["worth"] = 0.4, 0.02
    changed["specialist"]["niche"]["traffic"] = 1000
    contract = Contract.model_validate(changed)
    assert contract.model_dump(mode="json") == changed
    readers = {"budget.price", "evaluation", "specialist"}
    assert {job.name for job in pipeline(contract) if readers & set(job.reads)} == {"reports"}  # no student is trained again
