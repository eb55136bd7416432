"""The tests of the gate's requirements on made-up answers: methods, clusters, pairs, slices, latency, cost, confirmation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from engine.contract.budget import Price
from engine.contract.evaluation import Evaluation, Nearest
from engine.contract.gate import Gate, HurtBy
from engine.contract.models import FakeModel
from engine.contract.specialist import Specialist
from engine.evaluation.assess import assess
from engine.evaluation.confirm import closed_rows
from engine.evaluation.evaluator import EvalTarget, Evaluated
from engine.evaluation.predict import predictions
from engine.evaluation.requirements import GateContext
from engine.evaluation.result import EvalResult
from engine.evaluation.size import ModelSize
from engine.inference.engine import Completion
from engine.records.gate import RequirementTest
from engine.records.report import Role
from engine.release.gate import decide

SPECIALIST = Specialist.model_validate({"goal": "Echo.", "task_units": [{"name": "echo", "kind": "rewrite"}]})
UNITS = {unit.name: unit for unit in SPECIALIST.task_units}
SECONDS = {index: 0.1 + 0.001 * index for index in range(60)}


def rows(count: int, per_scenario: int = 1) -> list[dict[str, Any]]:
    return [
        {
            "prompt_id": f"p{i}", "task_unit": "echo", "text": f"t{i}", "reference": f"t{i}",
            "layer": "core" if i % 2 else "long_tail", "difficulty": "easy", "scenario": f"s{i // per_scenario}", "messages": [],
        }
        for i in range(count)
    ]  # fmt: skip


def result(name: str, role: Role, wrong: Sequence[int], of: Sequence[dict[str, Any]]) -> EvalResult:
    model = Nearest(type="nearest", name=name) if role == "baseline" else FakeModel(type="fake")
    target = EvalTarget(name=name, role=role, model=model, units=UNITS)
    completions = [Completion("?" if i in set(wrong) else row["text"], "stop", 10, 2, -0.1) for i, row in enumerate(of)]
    found = Evaluated(completions, SECONDS, 50.0, 900.0, ModelSize(100, 6, weight_bytes=400))
    return EvalResult(target, found, predictions(target, of, found, scenarios=()))


def measured(gate: Gate, *results: EvalResult, champion: str | None = None) -> dict[str, RequirementTest]:
    evaluation = Evaluation(bootstrap=400, slices=("layer",))
    [entry] = [
        each
        for each in assess(results, evaluation, SPECIALIST, Price(per_machine_hour=1.0), GateContext(gate, champion))
        if each.name == "s"
    ]
    assert entry.tests is not None
    return entry.tests


def test_rows_of_one_cluster_say_less_than_independent_ones() -> None:
    wrong, gate = [i for i in range(120) if i % 12 < 2], Gate(exact_match=0.75)
    alone = measured(gate, result("s", "student", wrong, rows(120)))["exact_match"]
    together = measured(gate, result("s", "student", wrong, rows(120, 4)))["exact_match"]
    assert (alone.clusters, together.clusters, alone.n, together.n) == (120, 30, 120, 120)
    assert alone.design_effect == 1.0 and together.design_effect > 1.2
    assert together.low < alone.low < alone.value < alone.high < together.high
    assert alone.p_pass < together.p_pass and alone.icc is None and together.icc is not None


def test_beaten_baseline_is_tested_by_mcnemar_where_rows_are_independent() -> None:
    gate, of = Gate(beats=("b",)), rows(60)
    student, baseline = result("s", "student", range(2), of), result("b", "baseline", range(1, 14), of)
    test = measured(gate, student, baseline)["beats b"]
    assert test.method == "McNemar, mid-p" and test.value == pytest.approx(11 / 60)
    # 13 rows differ, 12 for the student: mid-p = P(13) + P(12) / 2 of 13 coins
    assert test.p_pass == pytest.approx((1 + 13 / 2) / 2**13)
    assert measured(gate, student, result("b", "baseline", range(2), of))["beats b"].p_pass == pytest.approx(0.5)
    clustered = rows(60, 3)
    twin = measured(gate, result("s", "student", range(2), clustered), result("b", "baseline", range(1, 14), clustered))["beats b"]
    assert twin.method == "score of a paired difference" and twin.p_pass > test.p_pass


@pytest.mark.parametrize(("lost", "by", "word"), [
    (0, "prove", "pass"), (8, "point", "pass"), (9, "point", "refuse"), (12, "prove", "undecided"), (40, "prove", "refuse"),
])  # fmt: skip
def test_student_that_its_objectives_hurt_by_more_than_the_twin_allows_does_not_pass(lost: int, by: Any, word: str) -> None:
    """The twin learned by sft alone and errs on 40 of 400 mails; the student errs on `lost` more, of which 8 are allowed."""
    of, gate = rows(400), Gate(hurt_by=HurtBy(twins={"kd": "sft"}), by=by)
    both = result("sft", "student", range(40), of), result("kd", "student", range(40 + lost), of)
    entries = assess(both, Evaluation(bootstrap=200, slices=()), SPECIALIST, Price(), GateContext(gate))
    found = decide(entries, gate)
    assert found.words["sft"] == "pass" and found.words["kd"] == word
    assert ("kd" in found.passing) is (word == "pass")


def test_retention_is_paired_with_the_teacher() -> None:
    of, gate = rows(200), Gate(retention=0.9, retention_unseen=0.9)
    teacher = result("t", "teacher", range(40), of)
    same = measured(gate, teacher, result("s", "student", range(44), of))["retention"]
    other = measured(gate, teacher, result("s", "student", [*range(22), *range(100, 122)], of))["retention"]
    assert same.value == other.value == pytest.approx(156 / 160)
    assert same.p_pass < other.p_pass and same.high - same.low < other.high - other.low


def test_champion_and_slices_want_nothing_without_a_champion() -> None:
    of, gate = rows(120), Gate.model_validate({"champion": 0.02, "slices": {"rows": 30}})
    student = result("s", "student", range(0, 40, 2), of)
    assert {test.p_pass for test in measured(gate, student).values()} == {0.0}
    assert measured(gate, student, champion="s")["champion"].detail == "it is the champion"
    assert measured(gate, student, champion="champion") == {}  # it could not be evaluated


def test_slice_on_which_the_student_is_worse_than_the_champion_refuses_it() -> None:
    of, gate = rows(120), Gate.model_validate({"champion": 0.5, "slices": {"rows": 30}})
    champion = result("champion", "champion", range(1, 40, 2), of)
    worse = measured(gate, result("s", "student", range(0, 40, 2), of), champion, champion="champion")["slices"]
    assert (worse.p_pass, worse.p_refuse) == (1.0, 0.0) and worse.detail.startswith("layer long_tail -0.333")
    fine = measured(gate, result("s", "student", range(1, 36, 2), of), champion, champion="champion")
    assert (fine["slices"].p_pass, fine["champion"].p_pass < 0.001) == (0.0, True)
    assert "none of 2 slices" in fine["slices"].detail


def test_slices_that_are_all_too_small_are_undecided_and_not_passed() -> None:
    of, gate = rows(120), Gate.model_validate({"slices": {"rows": 99}})
    champion = result("champion", "champion", range(1, 40, 2), of)
    found = measured(gate, result("s", "student", range(0, 40, 2), of), champion, champion="champion")["slices"]
    assert (found.p_pass, found.p_refuse, found.value) == (1.0, 1.0, None)
    assert found.detail == "no slice of evaluation.slices has 99 prompts; lower gate.slices.rows"


def test_latency_size_and_cost_have_tests_of_their_own() -> None:
    of = rows(120)
    gate = Gate(p95_ms=400, parameters=99, weight_bytes=400, cost_per_1000_accepted=0.1, ece=0.5)
    tests = measured(gate, result("t", "teacher", range(10), of), result("s", "student", range(30), of))
    assert tests["p95_ms"].method == "order statistics of 60 values" and tests["p95_ms"].p_pass == pytest.approx(0.95**60)
    assert (tests["parameters"].p_refuse, tests["weight_bytes"].p_pass) == (0.0, 0.0)
    cost = tests["cost_per_1000_accepted"]
    assert cost.low < cost.value < cost.high and cost.p_pass < 0.01 and cost.method == "bootstrap of clusters"
    assert cost.value == pytest.approx(1000 * 120 * np.mean(list(SECONDS.values())) / 3600 / 90)
    assert tests["ece"].low <= tests["ece"].value <= tests["ece"].high
    timid = result("s", "student", (), of)
    few = timid._replace(evaluated=timid.evaluated._replace(seconds=dict(list(SECONDS.items())[:12])))
    assert measured(gate, few)["p95_ms"].method == "log-normal tolerance bound of 12 values"


def test_closed_part_takes_whole_clusters_and_is_always_the_same() -> None:
    labels = [f"s{i // 3}" for i in range(90)]
    closed = closed_rows(labels, 0.3)
    assert (
        closed.sum() == 27 and len({labels[i] for i in np.flatnonzero(closed)} & {labels[i] for i in np.flatnonzero(~closed)}) == 0
    )
    assert (closed_rows(list(reversed(labels)), 0.3) == closed[::-1]).all()
