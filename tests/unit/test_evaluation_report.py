"""The entries of report.json, and the findings."""

from collections.abc import Sequence

import pytest

from engine.contract.budget import Price
from engine.contract.checks import Length, Policy
from engine.contract.evaluation import Evaluation, Nearest
from engine.contract.gate import Gate
from engine.contract.models import FakeModel
from engine.contract.specialist import Specialist
from engine.evaluation.assess import EvalResult, assess
from engine.evaluation.evaluator import EvalTarget, Evaluated, failed
from engine.evaluation.findings import findings
from engine.evaluation.predict import predictions
from engine.evaluation.size import ModelSize
from engine.inference.engine import Completion
from engine.records.report import Holdout, ModelEntry, Role
from engine.release.gate import decide

SPECIALIST = Specialist.model_validate(
    {"goal": "Say it again.", "niche": {"answer_above": 0.5}, "task_units": [{"name": "echo", "kind": "rewrite"}]}
)
UNITS = {unit.name: unit for unit in SPECIALIST.task_units}
ROWS = [
    {
        "prompt_id": str(index),
        "task_unit": "echo",
        "text": f"t{index}",
        "reference": f"t{index}",
        "layer": "core" if index % 4 else "long_tail",
        "difficulty": "easy",
        "scenario": f"known{index}" if index < 40 else f"new{index}",
        "messages": [],
    }
    for index in range(120)
]


KNOWN = {f"known{index}" for index in range(40)}


def result(
    name: str, role: Role, *, wrong: Sequence[int] = (), parameters: int | None = 100, logprob: float | None = -0.1
) -> EvalResult:
    """A model that is wrong on the rows `wrong`."""
    model = Nearest(type="nearest", name=name) if role == "baseline" else FakeModel(type="fake")
    target = EvalTarget(name=name, role=role, model=model, units=UNITS)
    completions = [Completion("?" if i in wrong else row["text"], "stop", 10, 2, logprob) for i, row in enumerate(ROWS)]
    found = Evaluated(completions, {0: 0.1, 5: 0.3}, 50.0, 900.0, ModelSize(parameters, 6))
    return EvalResult(target, found, predictions(target, ROWS, found, scenarios=KNOWN))


def entries(*results: EvalResult) -> dict[str, ModelEntry]:
    evaluation = Evaluation(bootstrap=300, slices=("layer", "seen"))
    return {entry.name: entry for entry in assess(results, evaluation, SPECIALIST, Price())}


def sentences(models: dict[str, ModelEntry], gate: Gate | None = None, notes: Sequence[str] = (), rows: int = 120) -> str:
    decision = decide(list(models.values()), gate or Gate())
    holdout = Holdout(rows=rows, seen=40, unseen=rows - 40)
    return "\n".join(findings(list(models.values()), holdout=holdout, gate=decision, notes=notes, level=0.95))


TEACHER = result("t", "teacher", wrong=range(0, 12), parameters=400)
GOOD = result("good", "student", wrong=range(0, 13))
POOR = result("poor", "student", wrong=range(30, 100), parameters=50, logprob=-2.0)
RULES = result("rules", "baseline", wrong=range(0, 60), parameters=None, logprob=None)


def test_assess_compares_each_model_with_the_teacher_and_the_baselines() -> None:
    found = entries(TEACHER, GOOD, POOR, RULES)
    assert found["t"].against_teacher is None
    against = found["good"].against_teacher
    assert against.difference.value == pytest.approx(-1 / 120, abs=1e-6)
    assert against.retention.value == pytest.approx(107 / 108, abs=1e-6)
    assert against.retention_unseen.value == 1.0  # both get all 80 of the new scenario
    assert against.retention_unseen.n == 80
    assert found["good"].against_baselines["rules"].value == pytest.approx(47 / 120, abs=1e-6)
    assert found["rules"].against_baselines == {}
    assert found["good"].size_vs_teacher == 0.25
    assert found["rules"].parameters is None


def test_assess_of_slices_counts_each_row_once() -> None:
    slices = entries(TEACHER, GOOD)["good"].slices
    assert {value: score.n for value, score in slices["layer"].items()} == {"core": 90, "long_tail": 30}
    assert {value: score.n for value, score in slices["seen"].items()} == {"seen": 40, "unseen": 80}
    assert slices["seen"]["seen"].exact_match.value == pytest.approx(27 / 40)
    assert slices["layer"]["long_tail"].exact_match.value == pytest.approx(26 / 30, abs=1e-6)


def test_assess_gives_the_share_that_passes_each_check_and_so_for_every_slice() -> None:
    checks = (Length(type="length", max=9), Policy(type="policy", name="no_doubt", banned=("?",)))
    target = EvalTarget(name="s", role="student", model=FakeModel(type="fake"), units=UNITS)
    completions = [Completion("?" if i < 30 else "one", "length" if i in (50, 51) else "stop", 10, 2) for i in range(len(ROWS))]
    found = Evaluated(completions)
    table = predictions(target, ROWS, found, scenarios=KNOWN, checks=checks)
    entry = entries(EvalResult(target, found, table))["s"]
    assert entry.checks["length"].value == pytest.approx(118 / 120)
    assert entry.checks["no_doubt"].value == pytest.approx(88 / 120) and entry.checks["no_doubt"].n == 120
    assert entry.slices["seen"]["seen"].checks["no_doubt"].value == pytest.approx(10 / 40)
    assert table["checks"].to_pylist()[50][0]["tag"] == "no_answer"


def test_assess_gives_null_for_numbers_that_a_model_does_not_have() -> None:
    found = entries(TEACHER, RULES)["rules"]
    assert found.metrics.ece is None and found.metrics.brier is None
    assert found.metrics.schema_validity is None and found.metrics.field_f1 is None
    assert found.fields == {}
    assert found.cost.fallback_share == 0.0


def test_assess_measures_students_by_the_best_of_several_teachers() -> None:
    worse = result("worse", "teacher", wrong=range(50))
    found = entries(worse, TEACHER, GOOD)
    assert found["good"].against_teacher.teacher == "t"
    assert found["worse"].against_teacher.teacher == "t"


def test_assess_without_a_teacher_compares_with_none() -> None:
    found = entries(GOOD)["good"]
    assert found.against_teacher is None and found.cost is None and found.size_vs_teacher is None


def test_findings_tell_equal_from_worse_by_the_interval() -> None:
    text = sentences(entries(TEACHER, GOOD, POOR, RULES))
    assert "The difference of good and t is not significant on this holdout: -0.008 exact match" in text
    assert "poor is worse than t: -0.483" in text
    assert "poor does not significantly beat the baseline rules" in text
    assert "good does not significantly beat" not in text
    assert "poor leaves 100 % of the requests to the teacher." in text
    assert "The numbers on unseen scenarios rest on 80 prompts." in text


def test_findings_name_a_small_holdout_and_a_perfect_score() -> None:
    perfect = result("good", "student")
    text = sentences(entries(TEACHER, perfect), rows=60)
    assert "The holdout is small: 60 prompts." in text
    assert "good got all of 120 right: its bootstrap interval has no width, yet the true rate may differ by 0.025." in text


def test_findings_name_a_pass_whose_interval_does_not() -> None:
    gate = Gate.model_validate({"exact_match": 0.88, "by": "point"})
    text = sentences(entries(TEACHER, GOOD), gate)
    assert "good passes the gate's exact_match only by its point value 0.892: its 95 % interval reaches 0.8" in text
    assert "by its point value" not in sentences(entries(TEACHER, GOOD), Gate.model_validate({"exact_match": 0.5, "by": "point"}))


def test_findings_begin_with_models_that_failed_and_the_notes() -> None:
    target = EvalTarget(name="broken", role="student", model=FakeModel(type="fake"), units=UNITS)
    nothing = failed(len(ROWS), "there is no config.json")
    broken = EvalResult(target, nothing, predictions(target, ROWS, nothing, scenarios=()))
    text = sentences(entries(TEACHER, broken), notes=["The judge was never calibrated."]).splitlines()
    assert text[:2] == ["broken could not be evaluated: there is no config.json", "The judge was never calibrated."]
    assert "broken" not in "".join(text[2:])
