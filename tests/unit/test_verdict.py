"""From the answers to the report: clusters, the closed part of the holdout, who is shown on it, and how often it was opened."""

from typing import Any

import pytest
from test_evaluation_requirements import result, rows
from test_release_registry import contract

from engine.contract.contract import Contract
from jobs.steps.verdict import Setting, cluster_labels, verdict

N = 300
OF = rows(N)


def ordered(gate: dict[str, Any]) -> Contract:
    made = contract({"exact_match": 0.7, "confirm": 0.4, **gate}).model_dump(mode="json")
    made["specialist"]["task_units"] = [{"name": "echo", "kind": "rewrite"}]
    made["evaluation"] |= {"bootstrap": 100, "slices": ["layer"]}
    return Contract.model_validate(made)


def results(wrong: int) -> list[Any]:
    of_students = [result(name, "student", range(0, N, wrong), OF) for name in ("large", "small")]
    return [result("t", "teacher", range(0, N, 20), OF), *of_students]


def test_closed_part_is_opened_for_the_chosen_student_alone() -> None:
    looks = []
    setting = Setting(look=lambda student, part: looks.append((student, part)) or 3)
    made = verdict(ordered({}), results(10), setting, run="r", notes=())
    confirmation = made.report.gate.confirmation
    assert confirmation is not None and made.report.gate.winner == confirmation.student == "large"  # equal in size: by name
    assert (confirmation.rows, confirmation.word, confirmation.looks) == (120, "pass", 3)
    assert [student for student, _ in looks] == ["large"]
    assert (made.report.holdout.rows, made.report.holdout.closed, made.report.holdout.clusters) == (180, 120, 180)
    assert [table.num_rows for table in made.predictions] == [300, 300, 180]  # teacher, large, small
    assert confirmation.numbers[0].n == 120 and made.report.gate.numbers["large"][0].n == 180
    assert any("was opened for 3 students" in finding for finding in made.report.findings)


def test_closed_part_stays_closed_without_a_chosen_student() -> None:
    setting = Setting(look=lambda student, part: pytest.fail("nobody was chosen"))
    made = verdict(ordered({}), results(3), setting, run="r", notes=())
    assert made.report.gate.confirmation is None and made.report.gate.winner is None
    assert {table.num_rows for table in made.predictions} == {180}


def test_chosen_student_that_fails_on_the_closed_part_does_not_pass() -> None:
    from engine.evaluation.confirm import closed_rows

    closed = closed_rows([row["scenario"] for row in OF], 0.4)
    wrong = [index for index in range(N) if closed[index] and index % 2]
    students = [result("small", "student", wrong, OF), result("large", "student", range(0, N, 2), OF)]
    made = verdict(ordered({"students": "holm"}), [result("t", "teacher", (), OF), *students], Setting(), run="r", notes=())
    gate = made.report.gate
    assert gate.confirmation is not None and gate.confirmation.student == "small" and gate.confirmation.word == "refuse"
    assert (gate.words["small"], gate.winner) == ("refuse", None)
    everyone = [*students, result("third", "student", (), OF)]  # passes on the open part, and nobody looks at the closed one
    made = verdict(ordered({"students": "holm"}), [result("t", "teacher", (), OF), *everyone], Setting(), run="r", notes=())
    gate = made.report.gate
    assert (gate.words["small"], gate.words["third"], gate.winner) == ("refuse", "undecided", None)


def test_clusters_are_those_of_the_column_that_the_contract_names() -> None:
    held = [
        {"prompt_id": f"p{i}", "parent_id": "x" if i < 2 else None, "scenario": "" if i == 3 else "s", "layer": "core"}
        for i in range(4)
    ]
    assert cluster_labels(held, "scenario") == ["s", "s", "s", "p3"]
    assert cluster_labels(held, "parent") == ["x", "x", "p2", "p3"]
    assert cluster_labels(held, "none") == ["p0", "p1", "p2", "p3"]
    assert cluster_labels(held, "layer") == ["core"] * 4


def test_report_on_few_clusters_says_that_its_intervals_are_rough() -> None:
    made = ordered({"confirm": None})
    coarse = made.model_copy(update={"evaluation": made.evaluation.model_copy(update={"cluster": "layer"})})
    found = verdict(coarse, results(10), Setting([row["layer"] for row in OF]), run="r", notes=()).report
    assert found.holdout.clusters == 2
    assert any("only 2 clusters" in finding and "evaluation.cluster to none" in finding for finding in found.findings)
