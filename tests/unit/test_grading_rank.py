"""Rivals side by side: both orders, ties, more than two; paid once, and only where a judge may decide."""

import dataclasses

import numpy as np
import pytest
from judge_world import RANKING, RUBRIC, between, change_clients, grader_spec, think

from engine.grading.grader import Grader
from engine.grading.rank import competitors, outranked, strengths
from engine.inference.token_budget import usage_in
from engine.rows import ANSWER, from_rows
from tests.planted import planted

A, B, EVEN = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
PLAIN = {"task_unit": "form", "text": "send", "finish_reason": "stop", "redacted": [], "error": "", "prompt_id": "aa"}


def said(*answers, prompt="aa"):
    return from_rows(
        [
            {**PLAIN, "prompt_id": prompt, "answer_id": f"{prompt}{n}", "answer": one, "teacher": f"t{n}"}
            for n, one in enumerate(answers)
        ],
        ANSWER,
    )


def order(better):
    """A judge that marks all alike, and of two answers likes the one that comes later in `better`."""

    def think_of(asked):
        if "FIRST" not in asked:
            return [0.1, 0.9]
        first, second = between(asked, "FIRST", "SECOND"), between(asked, "SECOND", "END")
        return list(A if better.index(first) > better.index(second) else B)

    return think_of


def grader(folder, gold=None, **section):
    spec = grader_spec(folder, gold, **{"ranking": RANKING, **section})
    return Grader(dataclasses.replace(spec, competes=True))


def test_stronger_answer_wins_in_both_orders():
    assert strengths(2, {(0, 1): A, (1, 0): B}) == pytest.approx([2.1 / 2.2, 0.1 / 2.2], abs=1e-5)


@pytest.mark.parametrize("comparisons", [{(0, 1): A, (1, 0): A}, {(0, 1): EVEN, (1, 0): EVEN}, {(0, 1): None, (1, 0): None}])
def test_liking_for_a_place_a_tie_and_silence_leave_answers_alike(comparisons):
    assert strengths(2, comparisons) == [0.5, 0.5]
    assert strengths(3, comparisons) == pytest.approx([1 / 3] * 3, abs=1e-5)


def test_strengths_of_many_are_those_of_bradley_and_terry():
    true = np.array([0.1, 0.2, 0.3, 0.4])
    comparisons = {
        (a, b): (true[a] / (true[a] + true[b]), true[b] / (true[a] + true[b]), 0.0) for a in range(4) for b in range(4) if a != b
    }
    result = strengths(4, comparisons)
    assert result == pytest.approx(true, abs=0.03) and sum(result) == pytest.approx(1, abs=1e-5)


def test_one_that_beats_all_is_strongest_without_end_of_strength():
    comparisons = {(a, b): A if a < b else B for a in range(3) for b in range(3) if a != b}
    first, second, third = strengths(3, comparisons)
    assert 1 > first > second > third > 0


def test_of_competing_answers_the_one_that_wins_its_pairs_stays(tmp_path, monkeypatch):
    think(monkeypatch, order(["one", "three", "two"]))
    rows = grader(tmp_path)(said("one", "two", "three")).to_pylist()
    assert [row["pool"] for row in rows] == ["contrast", "train", "contrast"]
    assert [row["reasons"] for row in rows] == [["outranked"], ["accepted"], ["outranked"]]
    strong = [next(mark["score"] for mark in row["dimension_scores"] if mark["dimension"] == "pairs") for row in rows]
    assert strong[1] > strong[2] > strong[0] and sum(strong) == pytest.approx(1, abs=1e-4)


def test_without_a_ranking_the_most_trusted_stays_and_no_pair_is_asked(tmp_path, monkeypatch):
    read = think(monkeypatch, lambda asked: [0.1, 0.9] if "two" in asked else [0.4, 0.6])
    rows = grader(tmp_path, ranking=None)(said("one", "two")).to_pylist()
    assert [row["pool"] for row in rows] == ["contrast", "train"] and len(read) == 2


def test_pairs_are_paid_once_and_counted(tmp_path, monkeypatch):
    read = think(monkeypatch, order(["one", "three", "two"]))
    first = grader(tmp_path)
    rows = first(said("one", "two", "three", "two"))
    assert len(read) == 3 + 6  # equal answers are one rival
    assert usage_in(first.spec.client.budget)["j"].answers == 9
    again = grader(tmp_path)
    assert again(said("one", "two", "three", "two")).equals(rows) and len(read) == 9
    assert [row["pool"] for row in rows.to_pylist()] == ["contrast", "train", "contrast", "train"]


def test_only_so_many_rivals_are_compared(tmp_path, monkeypatch):
    read = think(monkeypatch, order(["a", "b", "cc", "dd"]))
    rows = grader(tmp_path, ranking={**RANKING, "max_answers": 2})(said("a", "b", "cc", "dd"))
    assert sum("FIRST" in text for text in read) == 2
    assert rows["pool"].to_pylist() == ["contrast", "train", "contrast", "contrast"]


def test_prompts_do_not_compete_with_each_other_and_are_asked_together(tmp_path, monkeypatch):
    import pyarrow as pa

    read = think(monkeypatch, order(["one", "two"]))
    rows = grader(tmp_path)(pa.concat_tables([said("one", "two"), said("two", "one", prompt="ab")]))
    assert rows["pool"].to_pylist() == ["contrast", "train", "train", "contrast"] and len(read) == 4  # equal questions are one


def test_spent_budget_leaves_the_pointwise_winner(tmp_path, monkeypatch):
    think(monkeypatch, lambda asked: list(B) if "FIRST" in asked else ([0.1, 0.9] if "two" in asked else [0.4, 0.6]))
    rich = grader(tmp_path)
    poor = Grader(change_clients(rich.spec, cap=1))  # the ratings are one batch, the pairs another
    rows = poor(said("one", "two")).to_pylist()
    assert [row["pool"] for row in rows] == ["contrast", "train"]
    assert {mark["dimension"] for row in rows for mark in row["dimension_scores"]} == {""}


def test_judge_that_may_not_decide_compares_and_another_rule_decides(tmp_path, monkeypatch):
    blind = order(["one", "two!"])
    think(monkeypatch, lambda asked: blind(asked) if "FIRST" in asked else [0.5, 0.5])
    rows = grader(tmp_path, planted(8), calibrate={"minimum": {"auc": 0.9}})(said("one", "two!")).to_pylist()
    assert [row["pool"] for row in rows] == ["train", "contrast"]  # the shorter, by the rule that needs no judge
    assert rows[1]["dimension_scores"][-1]["score"] > 0.9 and not rows[1]["judge_decides"]


def test_task_unit_may_ask_for_pairs_in_its_own_words(tmp_path, monkeypatch):
    own = {**RANKING, "by_task_unit": {"form": "Which form? FIRST {first} SECOND {second} END"}}
    read = think(monkeypatch, lambda asked: list(EVEN) if "FIRST" in asked else [0.5, 0.5])
    grader(tmp_path, ranking=own)(said("one", "two"))
    assert sum(text.startswith("Which form?") for text in read) == 2


def test_rivals_are_different_accepted_answers_favourites_first():
    rows = [
        {"prompt_id": "p", "answer_id": str(n), "answer": one, "reasons": [why], "confidence": trust, "agreement": 1.0}
        for n, (one, why, trust) in enumerate(
            [("a", "accepted", 0.2), ("b", "accepted", 0.9), (" b", "accepted", 0.8), ("c", "low_confidence", 1.0)]
        )
    ]
    assert [row["answer_id"] for row in competitors(rows, max_answers=6, judge_decides=True)["p"]] == ["1", "0"]
    assert outranked(rows) == {"0"} and outranked(rows, {"0": 0.7, "1": 0.3}) == {"1", "2"}


def test_rubric_of_the_ranking_is_the_one_that_is_named(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "engine.inference.fake.FakeEngine.choice_probs",
        lambda self, chats, marks: [seen.append(chat[0]["content"]) or [1 / len(marks)] * len(marks) for chat in chats],
    )
    spec = grader_spec(
        tmp_path, rubrics=[RUBRIC, {**RUBRIC, "name": "k", "system": "Compare."}], ranking={**RANKING, "rubric": "k"}
    )
    Grader(dataclasses.replace(spec, competes=True))(said("one", "two"))
    assert seen.count("Compare.") == 4 and seen.count("Judge.") == 2
