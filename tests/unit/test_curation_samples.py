"""Several answers to one prompt are duplicates of each other only if the contract compares them; then the best is kept."""

import random

import in_process
import pyarrow as pa
import pytest

from engine.contract.curation import Answers, Curation
from engine.contract.prompts import Copies
from engine.curation.dispositions import SIBLING, follow
from engine.curation.entries import entries as entries_of
from engine.curation.ngram_index import PROTECTED, build_index
from engine.curation.samples import BEST_FIRST, best
from engine.curation.text_duplicates import resolve, signed
from engine.dedup.vectors import column
from engine.errors import StorageError

MAIL = "please send eight blue hand mirrors and two green lamps to the usual address before the end of next week"
SAID = [
    "eight mirrors and two lamps for the usual address by next week",
    "Eight mirrors  and two lamps for the usual address by next week",
]
SAID += ["eight mirrors and two lamps for the usual address by next month", "nothing at all"]


def entries(rows, policy, *, vectors=None):
    """Each is (answer_id, prompt_id, text, answer), the first the surest."""
    made = [
        {"answer_id": a, "prompt_id": p, "text": text, "answer": answer, "pool": "train", "layer": "core", "difficulty": "easy",
         "task_unit": "t", "agreement": 1.0, "confidence": 1 - int(a[1:]) / 100}
        for a, p, text, answer in rows
    ]  # fmt: skip
    section = Curation(answers=policy)
    found = entries_of(pa.Table.from_pylist(made), build_index(PROTECTED.empty_table(), section.decontaminate), section)
    if vectors is not None:
        found = found.append_column("embedding", column(vectors))
    return best(found, policy)


def dispositions(table):
    return {row["answer_id"]: (row["dropped_by"], row["duplicate_of"]) for row in table.to_pylist()}


ROWS = [(f"a{n}", "p", MAIL, answer) for n, answer in enumerate(SAID)]


def test_an_answer_id_that_occurs_twice_is_refused():
    with pytest.raises(StorageError, match="found the answer_id 'a1' in 2 rows, expected it once"):
        entries([*ROWS, ("a1", "p", MAIL, "another")], None)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (None, ["sample", "sample", "sample"]),
        (Answers(), ["exact", SIBLING, SIBLING]),
        (Answers(exact=False), [SIBLING, SIBLING, SIBLING]),
        (Answers(max_per_prompt=2), ["exact", SIBLING, "sample"]),
        (Answers(minhash=Copies(threshold=0.6)), ["exact", "minhash", SIBLING]),
    ],
)
def test_answers_to_a_prompt_are_copies_only_where_the_contract_asks(policy, expected):
    found = dispositions(entries(ROWS, policy))
    assert found["a0"] == ("", "")
    assert [found[f"a{n}"] for n in (1, 2, 3)] == [(reason, "a0") for reason in expected]


def test_answers_that_mean_the_same_lose_to_the_nearest_that_is_kept():
    import numpy as np

    angle = np.radians([0, 60, 5, 58])
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    found = dispositions(entries(ROWS, Answers(exact=False, similarity=0.99), vectors=vectors))
    assert found == {"a0": ("", ""), "a1": (SIBLING, "a0"), "a2": ("semantic", "a0"), "a3": ("semantic", "a1")}


def test_equal_answers_to_other_prompts_are_no_copies():
    rows = [("a0", "p", MAIL, "yes"), ("a1", "q", "something else", "yes")]
    assert dispositions(entries(rows, Answers())) == {"a0": ("", ""), "a1": ("", "")}


def test_sibling_has_the_disposition_of_the_answer_it_follows():
    policy = Answers()
    rows = [
        ("a0", "p", MAIL, "one"),
        ("a1", "p", MAIL, "other"),
        ("a2", "q", MAIL.upper(), "one"),
        ("a3", "q", MAIL.upper(), "third"),
    ]
    table, section = entries(rows, policy), Curation(answers=policy)
    found = follow(resolve(table, [in_process.duplicates(signed(table, section), section.minhash, BEST_FIRST)], section))
    assert dispositions(found) == {"a1": ("", ""), "a2": ("exact", "a0"), "a3": ("exact", "a0")}


@pytest.mark.parametrize("seed", range(3))
def test_dispositions_of_answers_do_not_depend_on_the_order_of_the_input(seed):
    policy = Answers(max_per_prompt=2, minhash=Copies(threshold=0.6))
    rows = [(f"a{n}", f"p{n % 5}", MAIL, f"{SAID[n % 4]} {n % 3}") for n in range(40)]
    expected = dispositions(entries(rows, policy))
    assert dispositions(entries(random.Random(seed).sample(rows, 40), policy)) == expected
    assert {reason for reason, _ in expected.values()} == {"", SIBLING, "sample", "exact", "minhash"}
