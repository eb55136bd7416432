"""The gate by point values: what passes, what refuses, and the messages."""

from typing import Any

import pytest

from engine.contract.gate import Gate, HurtBy
from engine.records.gate import GateNumber
from engine.records.report import ModelEntry
from engine.release import point
from engine.release.explain import explain
from engine.release.gate import decide, thresholds


def value(number: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {
        "value": number,
        "low": number - 0.05 if low is None else low,
        "high": number + 0.05 if high is None else high,
        "n": 100,
    }


def entry(name: str = "s", **changes: Any) -> ModelEntry:
    """A student that is good at everything, but for `changes`."""
    fields = {
        "name": name,
        "role": "student",
        "parameters": 100,
        "metrics": METRICS,
        "latency": {"p50_ms": 100.0, "p95_ms": 200.0, "n": 40},
        "against_teacher": {"retention": value(0.97), "retention_unseen": value(0.95)},
        "against_baselines": {"rules": value(0.2)},
    }
    return ModelEntry.model_validate(fields | changes)


METRICS = {
    "exact_match": value(0.9),
    "schema_validity": value(1.0),
    "abstain_precision": value(0.9),
    "abstain_recall": value(0.9),
    "ece": value(0.05),
}
WHOLE = Gate(
    retention=0.9, retention_unseen=0.9, exact_match=0.8, schema_validity=0.98, abstain_precision=0.8, abstain_recall=0.8,
    ece=0.1, p95_ms=400, beats=("rules",), by="point",
)  # fmt: skip


def met(student: ModelEntry, gate: Gate) -> list[GateNumber]:
    return list(point.numbers(student, thresholds(student, gate)))


def refused(student: ModelEntry) -> list[str]:
    return [number.number for number in decide([student], WHOLE).refusals.get("s", ())]


def test_gate_passes_a_student_that_meets_every_number() -> None:
    decision = decide([entry()], WHOLE)
    assert (decision.passing, decision.refusals, decision.winner) == (("s",), {}, "s")
    assert len(decision.numbers["s"]) == 9


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"against_teacher": {"retention": value(0.89), "retention_unseen": value(0.95)}}, "retention"),
        ({"against_teacher": {"retention": value(0.97), "retention_unseen": value(0.5)}}, "retention_unseen"),
        ({"latency": {"p50_ms": 1.0, "p95_ms": 401.0, "n": 40}}, "p95_ms"),
        ({"against_baselines": {"rules": value(0.04, low=0.0)}}, "beats rules"),
        *(
            ({"metrics": METRICS | {name: value(wrong)}}, name)
            for name, wrong in [
                ("exact_match", 0.79), ("schema_validity", 0.97), ("abstain_precision", 0.7), ("abstain_recall", 0.7), ("ece", 0.11)
            ]
        ),
    ],
)  # fmt: skip
def test_gate_refuses_by_each_number_alone(changes: dict[str, Any], number: str) -> None:
    assert refused(entry(**changes)) == [number]


def test_gate_refuses_every_number_that_is_asked_and_missing() -> None:
    empty = {name: None for name in METRICS}
    nothing = entry(metrics=empty, latency=None, against_teacher=None, against_baselines={})
    assert refused(nothing) == [
        "retention", "retention_unseen", "exact_match", "schema_validity", "abstain_precision", "abstain_recall", "ece", "p95_ms",
        "beats rules",
    ]  # fmt: skip


def test_gate_refuses_a_student_that_could_not_be_examined_even_if_nothing_is_asked() -> None:
    assert decide([entry(error="no weights")], Gate()).winner is None


def test_gate_reads_a_threshold_as_met_when_equal() -> None:
    assert all(number.passed for number in met(entry(metrics={"exact_match": value(0.8)}), Gate(exact_match=0.8)))
    assert all(number.passed for number in met(entry(metrics={"ece": value(0.1)}), Gate(ece=0.1)))


def test_gate_lets_the_smallest_passing_student_win() -> None:
    sizes = {"large": 300, "middle": 200, "small": 100, "unknown": None}
    students = [entry(name, parameters=count) for name, count in sizes.items()]
    students[2] = entry("small", parameters=100, latency=None)
    decision = decide([*students, entry("t", role="teacher", parameters=1)], WHOLE)
    assert decision.passing == ("middle", "large", "unknown")
    assert decision.winner == "middle"
    assert set(decision.refusals) == {"small"}


def test_explain_names_found_and_wanted() -> None:
    low = entry(metrics=METRICS | {"exact_match": value(0.5), "ece": None}, against_baselines={"rules": value(0.01, low=-0.02)})
    messages = [explain(number) for number in decide([low], WHOLE).refusals["s"]]
    assert messages == [
        "exact_match: found 0.500, wanted at least 0.8",
        "ece: found nothing, wanted at most 0.1",
        "beats rules: found a difference of 0.010 (interval from -0.020), wanted one whose interval lies above 0",
    ]


def test_gate_refuses_a_student_that_is_worse_than_its_twin_by_more_than_allowed() -> None:
    gate = Gate(hurt_by=HurtBy(twins={"kd": "sft"}, at_most=0.02), by="point")
    for gap, passes in ((-0.02, True), (0.1, True), (-0.021, False)):
        found = decide([entry("kd", against_twins={"sft": value(gap)}), entry("sft")], gate)
        assert ("kd" in found.passing) is passes and "sft" in found.passing
    missing = decide([entry("kd")], gate).refusals["kd"]
    assert [explain(number) for number in missing] == [
        "beside sft: found a difference of nothing in exact match, wanted at least -0.02"
    ]
