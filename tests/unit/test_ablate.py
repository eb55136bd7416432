"""Training sets that differ only in what they were filtered by, and the intervals of what that is worth."""

import json

import numpy as np
import pytest
from made_run import made_run

from engine.contract.judges import Judges
from engine.errors import InputError
from engine.evaluation.ablate import AGREEMENT, AnswerFacts, answer_facts, subsets
from engine.records.ablation import Ablation
from engine.records.estimate import Estimate
from engine.rows import EXAMPLE, HOLDOUT, PREDICTION, from_rows
from engine.stats.bootstrap import TwoWayBootstrap
from engine.storage.artifact import RowCounts
from jobs.commands import ablate, ablate_trainings

CHECKED = {"checks": [{"type": "json_schema"}, {"type": "grounded"}]}
GOLD = [{"input": "a", "answer": str(number), "label": "right" if number % 2 else "wrong"} for number in range(8)]


def section(**more):
    return Judges.model_validate({**CHECKED, **more})


def answers(count=40):
    """Two answers a prompt. Every fourth prompt has one that is ungrounded, every fifth samples that disagree; scores rise."""
    found = []
    for number in range(count):
        for sample in range(2):
            failed = {"grounded"} if sample and number % 4 == 0 else {AGREEMENT} if number % 5 == 0 else set()
            score = number / count
            found.append(AnswerFacts(f"a{number}-{sample}", f"p{number}", frozenset(failed), score, 0.5 + score / 2))
    return found


def named(found):
    return {one.name: one for one in found}


def test_each_subset_learns_from_answers_that_pass_its_rules_and_all_are_of_one_size():
    known = {one.answer_id: one for one in answers()}
    found = named(subsets(known.values(), section(calibrate={"gold": GOLD}, accept={"confidence": 0.6})))
    kept = {name: [known[key] for key in one.chosen] for name, one in found.items() if one.chosen}
    assert len({len(chosen) for chosen in kept.values()}) == 1
    assert all(len({one.prompt_id for one in chosen}) == len(chosen) for chosen in kept.values())
    assert any("grounded" in one.failed for one in kept["all"])
    assert not any(one.failed for name in ("rules", "judge", "calibrated") for one in kept[name])
    assert {AGREEMENT} == set().union(*(one.failed for one in kept["without agreement"]))
    middle = np.median([one.score for one in known.values() if not one.failed])
    assert min(one.score for one in kept["judge"]) >= middle
    assert min(one.confidence for one in kept["calibrated"]) >= 0.6


def test_without_a_judge_the_confidence_from_evidence_is_a_filter():
    known = {one.answer_id: one._replace(score=None) for one in answers()}
    order = section(calibrate={"gold": GOLD}, accept={"confidence": 0.6}, evidence={"of": ["logprob"]})
    found = named(subsets(known.values(), order))
    assert "judge" not in found and "calibrated" not in found
    assert min(known[key].confidence for key in found["evidence"].chosen) >= 0.6 and len(found["evidence"].chosen) > 10
    assert "evidence" not in named(subsets([one._replace(confidence=None) for one in known.values()], order))


def test_subset_that_is_another_one_is_left_out_by_name():
    found = named(subsets(answers(), section(calibrate={"gold": GOLD}, accept={"confidence": 0.1})))
    assert found["calibrated"].left_out == "the same answers as rules" and not found["calibrated"].chosen
    assert found["without json_schema"].left_out == "the same answers as rules"  # it never failed
    assert not found["without grounded"].left_out


def test_check_with_a_name_is_left_out_by_its_name():
    """Outcomes carry the name of a check where it has one, else its type."""
    judges = Judges.model_validate({"checks": [{"type": "length", "name": "short", "max": 9}, {"type": "length", "max": 99}]})
    rows = [
        {
            "answer_id": f"a{number}",
            "prompt_id": f"p{number}",
            "checks": [{"check": "short", "passed": number % 2 == 0}, {"check": "length", "passed": True}],
            "agreement": None, "score": None, "confidence": None,
        }
        for number in range(20)
    ]  # fmt: skip
    results = named(subsets([answer_facts(row, judges) for row in rows], judges))
    assert results["rules"].answers == 10
    assert results["without short"].answers == 20 and results["without short"].left_out == "the same answers as all"
    assert results["without length"].left_out == "the same answers as rules"


def test_subset_of_few_prompts_does_not_cut_the_others_down():
    found = named(subsets(answers(), section(calibrate={"gold": GOLD}, accept={"confidence": 0.97})))
    assert found["calibrated"].left_out == "too few prompts" and len(found["all"].chosen) >= 10


def test_choice_does_not_depend_on_the_order_of_the_rows():
    assert subsets(answers(), section()) == subsets(reversed(answers()), section())


def test_no_judge_no_subset_of_it():
    bare = [one._replace(score=None, confidence=None) for one in answers()]
    assert [one.name for one in subsets(bare, section())][-1] == "without agreement"


@pytest.mark.parametrize(
    ("checks", "agreement", "failed"),
    [
        ([{"check": "grounded", "passed": False}], 0.2, {"grounded"}),  # who fails a check is not asked how samples agree
        ([{"check": "grounded", "passed": True}], 0.2, {AGREEMENT}),
        ([], None, set()),
    ],
)
def test_rules_that_an_answer_fails_are_named(checks, agreement, failed):
    row = {"answer_id": "a", "prompt_id": "p", "checks": checks, "agreement": agreement, "score": 0.5, "confidence": None}
    assert answer_facts(row, section()).failed == failed


def test_interval_covers_the_truth_as_often_as_it_says():
    """Rows of chance, as trainings and prompts bring it: 90 of 100 intervals at 90 % should hold the truth."""
    rng, hits = np.random.default_rng(0), 0
    for trial in range(100):
        chance = 0.7 + rng.normal(0, 0.03, (8, 1)) + rng.normal(0, 0.2, (1, 60))
        found = TwoWayBootstrap(8, 60, times=300, level=0.9, seed=trial).value(rng.random((8, 60)) < chance)
        hits += found.low <= 0.7 <= found.high
    assert 80 <= hits <= 98


def test_difference_is_paired():
    rng = np.random.default_rng(1)
    other = rng.random((3, 200)) < 0.5
    better = other | (rng.random((3, 200)) < 0.2)
    draws = TwoWayBootstrap(3, 200, times=500, level=0.95, seed=0)
    gain, alone = draws.value(better, other), draws.value(better)
    assert gain.low > 0 and gain.high - gain.low < alone.high - alone.low
    kept = draws.share(other, other[0])
    assert kept and kept.low < kept.value < kept.high and kept.value == pytest.approx(other.sum() / (3 * other[0].sum()), abs=1e-6)
    assert draws.share(other, np.zeros(200)) is None
    assert draws.value(other, other) == Estimate(value=0.0, low=0.0, high=0.0, n=600)


seen = []


def train(context):
    """A fake training: it writes the ids of its examples."""
    seen.append(context.job.name)
    table = context.artifact(context.job.needs[0]).read("examples", EXAMPLE)
    context.writer.folder.write("model/learnt.json", json.dumps(sorted(table["example_id"].to_pylist())).encode())
    return RowCounts(len(table), {"trained": len(table)})


def tokenise(context):
    """A fake of the job `tokens`."""
    rows = context.artifact(context.job.needs[0]).table("examples").rows
    return RowCounts(rows, {"tokenised": rows})


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run, with fake trainings and evaluations. No Ray."""
    from contextlib import nullcontext

    import jobs.pipeline
    import jobs.terminal.session

    seen.clear()
    monkeypatch.setattr(jobs.pipeline, "TRAIN", f"{__name__}:train")
    monkeypatch.setattr(jobs.pipeline, "TOKENISE", f"{__name__}:tokenise")

    def examine(context):
        holdout = context.artifact("prompts").read("holdout", HOLDOUT).to_pylist()
        rows = [{**row, "model": student.name, "exact": True} for student in context.contract.students for row in holdout]
        context.writer.put("predictions", from_rows(rows, PREDICTION), PREDICTION)
        return RowCounts(len(rows), {"answers": len(rows)})

    monkeypatch.setattr(jobs.terminal.session, "ray_session", lambda work, console: nullcontext())
    monkeypatch.setattr(ablate_trainings, "examine", examine)
    return made_run(str(tmp_path / "run"), tmp_path), seen


def test_command_trains_each_subset_once_a_seed_and_returns_the_results(run):
    work, seen = run
    ablation = ablate.ablate(work.folder.url, student="small", seeds=2)
    assert len(seen) == 4 and {name.rpartition("/")[2] for name in seen} == {"small-0", "small-1"}
    results = named(ablation.subsets)
    assert results["all"].answers == 3 and results["rules"].answers == 2 and ablation.examples == 2
    assert results["all"].exact_match == Estimate(value=1.0, low=1.0, high=1.0, n=2)
    assert results["rules"].against_all.value == 0 and results["without agreement"].left_out == "the same answers as rules"
    assert Ablation.model_validate_json(work.folder.read(ablate.RESULT)) == ablation
    assert "the same answers as rules" in ablate.as_text(ablation)
    [rules] = [name for name in seen if "rules" in name and name.endswith("small-0")]
    assert json.loads((work.folder / rules).read("model/learnt.json")) == ["eeee5555", "ffff6666"]


def test_second_call_trains_nothing_and_one_with_more_seeds_only_these(run):
    work, seen = run
    first = ablate.ablate(work.folder.url, student="small", seeds=1)
    assert ablate.ablate(work.folder.url, student="small", seeds=1) == first and len(seen) == 2
    ablate.ablate(work.folder.url, student="small", seeds=2)
    assert len(seen) == 4
    ablate.ablate(work.folder.url, student="small", seeds=1, epochs=1)
    assert len(seen) == 6


def test_unknown_student_is_refused_by_name(run):
    with pytest.raises(InputError, match="'huge', expected one of small, large"):
        ablate.ablate(run[0].folder.url, student="huge", seeds=1)


def test_page_says_what_filters_are_worth_and_what_was_not_trained(run, tmp_path):
    import sample_run

    from engine.report.collect import collect
    from engine.report.page import page

    given = sample_run.run(tmp_path / "metrics")
    assert "Ablation of the filters" not in page(collect(**given))
    ablation = ablate.ablate(run[0].folder.url, student="small", seeds=1)
    given["report"] = given["report"].model_copy(update={"ablation": ablation})
    html = page(collect(**given))
    assert "Ablation of the filters" in html and "not trained: the same answers as rules" in html
