"""What is shown of the evidence: the table of `rayleigh judge`, the line of `status`, and the page's section."""

from engine.records.calibration import EvidenceFit, EvidenceKind, LinearModel
from engine.records.judge import JudgeMetrics, JudgeStatus
from engine.records.report import Report
from engine.report.page import page
from engine.report.page_data import PageData
from engine.stats.intervals import estimate
from jobs.commands.judge import evidence_table
from jobs.commands.status import judge_note
from tests.sample_run import JUDGE

FIT = EvidenceFit(
    model=LinearModel(features=("logprob",), means=(0.0,), scales=(1.0,), weights=(2.0,), intercept=1.0),
    form="one",
    why="logprob alone: <no other> holds",
    trained_on="own",
    measured_on="own",
    strength=1.0,
    items=390,
    own=260,
    failed_checks=3,
    kinds=(
        EvidenceKind(
            name="logprob",
            numbers=("logprob",),
            items=390,
            auc=estimate(0.91, 0.8, 1.0, 260),
            auc_without=estimate(0.6, 0.5, 0.7, 260),
            worth=estimate(0.0712, 0.03, 0.11, 130),
            used=True,
        ),
        EvidenceKind(name="rubric:j", numbers=("rubric:j",), items=390, tokens=151.5),
        EvidenceKind(name="length", numbers=("length",), items=0, why="the same for every labelled item"),
    ),
    asked=40,
    judged=590,
)


def test_judge_lists_each_kind_with_its_worth_and_cost() -> None:
    text = evidence_table(FIT)
    assert "0.910" in text and "0.0712 (0.0300 to 0.1100)" in text and "152" in text
    assert "the same for every labelled item" in text and "logprob alone" in text
    assert "260 items that teachers of the contract wrote" in text and "3 items that fail a check are left out" in text


def test_status_says_what_the_confidence_is_computed_from() -> None:
    note = judge_note(JudgeStatus(name="j", decides=False, why=("its auc is low",), evidence=FIT))
    assert note.splitlines() == [
        "The confidence of 590 answers is computed from logprob alone: <no other> holds. "
        "Rubrics and readers were asked about 40 of them.",
        "j annotates, it decides nothing: its auc is low.",
    ]
    assert judge_note(None) == "" == judge_note(JudgeStatus(name="j", decides=True))


def test_page_shows_the_evidence_escaped() -> None:
    judge = JudgeMetrics.model_validate(JUDGE).model_copy(update={"evidence": FIT})
    html = page(PageData(run="", created="", report=Report(judge=judge), contract={}, jobs=[]))
    section = html.partition('<section id="judge">')[2].partition("</section>")[0]
    assert "logprob alone: &lt;no other&gt; holds" in section and "0.0712" in section and "151.5" in section
    assert "40 of them" in section and "rubric:j" in section
