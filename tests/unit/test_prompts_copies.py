"""Copies have one keeper, whatever the order of the rows; the holdout is never among what is trained on."""

import random

import in_process
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.contract.prompts import Copies
from engine.prompts import split
from engine.prompts.copies import sign
from engine.prompts.sources import LINE_BITS, WORK
from engine.rows import PROMPT_DROPS, REJECTED

COPIES = Copies(threshold=0.7, ngram=2)
LONG = (
    "please send eight blue hand mirrors and two green lamps to the usual address in Oxford "
    "before the end of next week with the invoice"
)


def work(*rows):
    """Rows of WORK; each is (prompt_id, side, text) with more columns as a dict."""
    made = []
    for line, (prompt_id, side, text, *more) in enumerate(rows, 1):
        row = {"prompt_id": prompt_id, "side": side, "text": text, "path": side, "source": side, "line": line, "layer": "core"}
        row |= {"place": (side == "holdout") << LINE_BITS | line, "reason": "", "detail": "", "raw": text, "redacted": []}
        row["round"] = 0
        made.append(row | (more[0] if more else {}))
    return pa.Table.from_pylist(made, schema=WORK)


def fates(table):
    """Return prompt_id -> (fate, rep_id) of the rows that do not stay."""
    signed = sign(table, COPIES)
    found = in_process.fates(signed, COPIES).to_pylist()
    ids = dict(zip(table["place"].to_pylist(), table["prompt_id"].to_pylist(), strict=True))
    return {ids[row["place"]]: (row["fate"], row["duplicate_of"]) for row in found}


def test_exact_copy_loses_to_the_smallest_id_and_case_and_space_do_not_count():
    assert fates(work(("b", "train", "Hello  World"), ("a", "train", "hello world"), ("c", "train", "other"))) == {
        "b": ("exact_copy", "a")
    }


def test_near_copy_loses_with_an_estimated_similarity_and_an_unlike_text_stays():
    table = work(("a", "train", LONG), ("b", "train", LONG + " please"), ("c", "train", LONG[:40] + " and nothing else"))
    assert fates(table) == {"b": ("near_copy", "a")}
    signed = sign(table, COPIES)
    similarity = in_process.fates(signed, COPIES)["similarity"].to_pylist()
    assert similarity == [pytest.approx(0.95, abs=0.1)]


def test_train_loses_to_the_holdout_even_with_a_smaller_id():
    table = work(("a", "train", LONG), ("z", "holdout", LONG), ("b", "train", LONG + " please"))
    assert fates(table) == {"a": ("holdout_copy", "z"), "b": ("holdout_near", "z")}


def test_copies_within_the_holdout_keep_one():
    assert fates(work(("b", "holdout", LONG), ("a", "holdout", LONG), ("c", "holdout", LONG + " please"))) == {
        "b": ("exact_copy", "a"),
        "c": ("near_copy", "a"),
    }


def test_equal_rows_of_one_source_keep_the_earliest():
    table = work(("a", "train", "same"), ("a", "train", "same"))
    signed = sign(table, COPIES)
    found = in_process.fates(signed, COPIES)
    assert found["place"].to_pylist() == [2]


def test_repeated_given_id_is_a_reject_and_no_keeper():
    table = work(("b", "train", "one", {"given_id": "7"}), ("a", "train", "two", {"given_id": "7"}), ("c", "train", "two"))
    signed = sign(table, COPIES)
    found = in_process.fates(signed, COPIES).to_pylist()
    assert [(row["place"], row["fate"], row["detail"]) for row in found] == [(2, "duplicate_id", "line 1 has the same id")]


def test_equal_given_ids_of_two_sources_are_no_fault():
    assert fates(work(("a", "train", "one", {"given_id": "7"}), ("b", "holdout", "two", {"given_id": "7"}))) == {}


@pytest.mark.parametrize("seed", range(4))
def test_fates_are_the_same_for_any_order_of_rows(seed):
    rng = random.Random(seed)
    sides = ["train" if n % 7 else "holdout" for n in range(40)]
    table = work(*((f"{n:02d}", sides[n], LONG[: 40 + 9 * (n % 9)] + " x" * (n % 3)) for n in range(40)))
    expected = fates(table)
    assert expected
    order = list(range(len(table)))
    rng.shuffle(order)
    shuffled = table.take(order)
    assert fates(shuffled) == expected


def test_label_sends_every_row_to_exactly_one_table_and_cuts_shards_by_id():
    rows = [(f"{n:02d}", "train", f"text number {n} is not like {n * n} others {n * 7}") for n in range(10)]
    reject = ("x", "train", "", {"reason": "empty", "prompt_id": None})
    rows += [("00h", "holdout", "held out"), reject, ("09b", "train", rows[9][2])]
    table = work(*rows)
    signed = sign(table, COPIES)
    found = in_process.fates(signed, COPIES)
    cuts = split.cuts(signed, found, shard_rows=4)
    labelled = split.label(table, found, cuts)
    assert sum(split.pick(labelled, name).num_rows for name in split.TABLES) == len(rows)
    counted = {row["value"]: row["rows"] for row in split.count(labelled).to_pylist() if row["what"] == "fate"}
    assert counted == {"prompts": 10, "holdout": 1, "empty": 1, "exact_copy": 1}
    prompts = split.pick(labelled, "prompts").sort_by("prompt_id")
    assert prompts["shard"].to_pylist() == [0] * 4 + [1] * 4 + [2] * 2
    assert pc.all(pc.is_in(labelled["fate"], pa.array(["prompts", "holdout", *REJECTED, *PROMPT_DROPS]))).as_py()
