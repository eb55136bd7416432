"""The gate that proves: words of requirements and of students, several students, confirmation, choice."""

from typing import Any

import pytest

from engine.contract.gate import Gate, HurtBy, Slices
from engine.records.gate import Confirmation, RequirementTest
from engine.records.report import ModelEntry
from engine.release.explain import explain, undecided_lines
from engine.release.gate import decide, thresholds

GATE = Gate(exact_match=0.8)


def proof(p_pass: float, *, wanted: float = 0.8, **more: Any) -> RequirementTest:
    about = {"value": 0.85, "low": 0.79, "high": 0.91, "n": 128, "clusters": 80, "more": 90}
    return RequirementTest.model_validate({**about, "wanted": wanted, "p_pass": p_pass, "p_refuse": 1 - p_pass, **more})


def student(name: str, p_pass: float, size: int = 100, **more: Any) -> ModelEntry:
    fields = {"name": name, "role": "student", "weight_bytes": size, "tests": {"exact_match": proof(p_pass)}}
    return ModelEntry.model_validate(fields | more)


def words(gate: Gate, *students: ModelEntry) -> dict[str, str]:
    return dict(decide(students, gate).words)


@pytest.mark.parametrize(
    ("p_pass", "word"), [(0.04, "pass"), (0.05, "pass"), (0.06, "undecided"), (0.94, "undecided"), (0.96, "refuse")]
)
def test_word_follows_from_both_tests_at_the_level(p_pass: float, word: str) -> None:
    decision = decide([student("s", p_pass)], GATE)
    assert decision.words == {"s": word} and decision.numbers["s"][0].word == word
    assert decision.winner == ("s" if word == "pass" else None)
    assert (list(decision.refusals), list(decision.undecided)) == ([*"s"] * (word == "refuse"), [*"s"] * (word == "undecided"))


def test_undecided_names_the_prompts_that_would_decide() -> None:
    decision = decide([student("s", 0.2)], GATE)
    assert list(undecided_lines(decision, "s")) == [
        "exact_match: found 0.850 (0.790 to 0.910, n 128; 80 clusters), wanted at least 0.8; undecided: about 90 further "
        "independent prompts would decide"
    ]


def test_undecided_at_its_limit_names_no_number_of_prompts() -> None:
    decision = decide([student("s", 0.2, tests={"exact_match": proof(0.2, more=None)})], GATE)
    assert [line.partition("; undecided")[2] for line in undecided_lines(decision, "s")] == [
        ", and 100,000 further independent prompts would not decide"
    ]


def test_sequence_goes_from_the_largest_and_ends_at_the_first_that_does_not_pass() -> None:
    large, middle, small = (student(name, p, size) for name, p, size in (("l", 0.01, 300), ("m", 0.2, 200), ("s", 0.01, 100)))
    decision = decide([small, middle, large], GATE)
    assert decision.words == {"s": "undecided", "m": "undecided", "l": "pass"} and decision.winner == "l"
    assert decision.because == {"s": "m is larger and does not pass, which ends the sequence of tests."}
    assert words(GATE, student("s", 0.01, 100), student("l", 0.01, 300)) == {"s": "pass", "l": "pass"}
    assert words(GATE, student("s", 0.99, 100), student("m", 0.01, 200)) == {"s": "refuse", "m": "pass"}


def test_student_that_is_too_large_has_no_place_in_the_sequence() -> None:
    gate = Gate(exact_match=0.8, weight_bytes=250)

    def sized(name: str, size: int, p: float) -> ModelEntry:
        fits = RequirementTest(wanted=250, value=size, p_pass=float(size > 250), p_refuse=float(size <= 250))
        return student(name, p, size, tests={"exact_match": proof(p), "weight_bytes": fits})

    assert words(gate, sized("l", 300, 0.01), sized("s", 100, 0.01)) == {"s": "pass", "l": "refuse"}
    assert words(gate, sized("l", 300, 0.9), sized("s", 100, 0.01)) == {"s": "pass", "l": "refuse"}


def test_holm_shares_the_level_among_the_students_in_any_order() -> None:
    gate = Gate(exact_match=0.8, students="holm")
    assert words(gate, student("l", 0.3, 300), student("s", 0.02, 100)) == {"s": "pass", "l": "undecided"}
    assert words(gate, student("l", 0.04, 300), student("s", 0.02, 100)) == {"s": "pass", "l": "pass"}
    decision = decide([student("l", 0.04, 300), student("s", 0.03, 100)], gate)
    assert decision.words == {"s": "undecided", "l": "undecided"}
    assert decision.because["s"] == "alone it would pass, but not among 2 students by Holm's procedure."


def test_number_that_is_missing_refuses_and_one_of_an_older_report_is_undecided() -> None:
    gate, value = Gate(exact_match=0.8, ece=0.1), {"value": 0.9, "low": 0.8, "high": 1.0, "n": 50}
    assert decide([student("s", 0.01)], gate).refusals["s"][0].number == "ece"
    older = ModelEntry.model_validate({"name": "s", "role": "student", "metrics": {"exact_match": value, "ece": value}})
    decision = decide([older], gate)
    assert decision.words == {"s": "undecided"}
    assert "undecided: the report was made before the gate tested this" in explain(decision.undecided["s"][0])
    assert decide([older], Gate(exact_match=0.8), by_point=True).winner == "s"
    assert decide([ModelEntry(name="s", role="student", error="no weights")], Gate()).words == {"s": "refuse"}


def test_test_of_another_threshold_counts_for_nothing() -> None:
    assert words(Gate(exact_match=0.81), student("s", 0.001)) == {"s": "refuse"}


def test_cheapest_passing_student_is_chosen_where_the_contract_says_so() -> None:
    small, large = (
        student("s", 0.01, 100, cost={"per_1000_accepted": 0.03}),
        student("l", 0.01, 300, cost={"per_1000_accepted": 0.02}),
    )
    assert decide([small, large], GATE).winner == "s"
    assert decide([small, large], Gate(exact_match=0.8, choose="cheapest_per_accepted")).winner == "l"


@pytest.mark.parametrize("word", ["refuse", "undecided"])
def test_chosen_student_that_is_not_confirmed_does_not_pass(word: str) -> None:
    confirmation = Confirmation.model_validate({"student": "s", "rows": 60, "clusters": 30, "looks": 2, "word": word})
    decision = decide([student("s", 0.01)], GATE, confirmation=confirmation)
    assert (decision.words, decision.winner) == ({"s": word}, None)
    assert "kept for confirmation" in decision.because["s"] and "look 2 at it" in confirmation.sentence
    passed = confirmation.model_copy(update={"word": "pass"})
    assert decide([student("s", 0.01)], GATE, confirmation=passed).winner == "s"


@pytest.mark.parametrize(("word", "winner"), [("refuse", None), ("undecided", None), ("pass", "s")])
def test_only_the_student_that_the_closed_part_was_opened_for_can_pass(word: str, winner: str | None) -> None:
    confirmation = Confirmation.model_validate({"student": "s", "rows": 60, "clusters": 30, "word": word})
    pair = [student("s", 0.01, 100), student("l", 0.01, 300), student("x", 0.97, 50)]
    decision = decide(pair, GATE.model_copy(update={"students": "holm"}), confirmation=confirmation)
    assert decision.words == {"x": "refuse", "s": word, "l": "undecided"} and decision.winner == winner
    assert "l" in decision.undecided and "was not looked at" in decision.because["l"] and "x" not in decision.because


def test_every_requirement_of_the_contract_has_a_threshold() -> None:
    gate = Gate(
        retention=0.9, retention_unseen=0.9, exact_match=0.8, schema_validity=0.9, abstain_precision=0.8, abstain_recall=0.8,
        ece=0.1, p95_ms=400, beats=("rules",), hurt_by=HurtBy(twins={"s": "t"}), champion=0.02, slices=Slices(),
        cost_per_1000_accepted=1.0,
        parameters=100, weight_bytes=100,
    )  # fmt: skip
    settings = {"by", "level", "students", "choose", "confirm", "detect", "power"}
    assert len(thresholds(student("s", 0.5), gate)) == len(set(Gate.model_fields) - settings)


def test_keys_with_their_defaults_change_no_recipe() -> None:
    assert set(Gate(exact_match=0.8).model_dump()) == {
        "retention", "retention_unseen", "exact_match", "schema_validity", "abstain_precision", "abstain_recall", "ece", "p95_ms",
        "beats",
    }  # fmt: skip
