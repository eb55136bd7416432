"""Of copies one row is kept, whatever the order of the rows; no copy of the holdout is a training prompt."""

import random

import in_process
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.contract.prompts import Copies
from engine.prompts import tables
from engine.prompts.copies import by_text, sign
from engine.prompts.sources import INGESTED, LINE_BITS
from engine.rows import PROMPT_DROPS, REJECTED

COPIES = Copies(threshold=0.7, ngram=2)
LONG = (
    "please send eight blue hand mirrors and two green lamps to the usual address in Oxford "
    "before the end of next week with the invoice"
)


def ingested(*rows):
    """Return rows of INGESTED; each is (prompt_id, side, text) with more columns as a dict."""
    table = []
    for line, (prompt_id, side, text, *more) in enumerate(rows, 1):
        row = {"prompt_id": prompt_id, "split": side, "text": text, "path": side, "source": side, "line": line, "layer": "core"}
        row |= {"row_key": (side == "holdout") << LINE_BITS | line, "reason": "", "detail": "", "raw": text, "redacted": []}
        row["round"] = 0
        table.append(row | (more[0] if more else {}))
    return pa.Table.from_pylist(table, schema=INGESTED)


def dispositions(table):
    """Return prompt_id -> (disposition, duplicate_of) of the rows that are not kept."""
    signed = sign(table, COPIES)
    found = in_process.dispositions(signed, COPIES).to_pylist()
    ids = dict(zip(table["row_key"].to_pylist(), table["prompt_id"].to_pylist(), strict=True))
    return {ids[row["row_key"]]: (row["disposition"], row["duplicate_of"]) for row in found}


def test_exact_copy_loses_to_the_smallest_id_and_case_and_space_do_not_count():
    assert dispositions(ingested(("b", "train", "Hello  World"), ("a", "train", "hello world"), ("c", "train", "other"))) == {
        "b": ("exact_copy", "a")
    }


def test_near_copy_loses_with_an_estimated_similarity_and_an_unlike_text_stays():
    table = ingested(("a", "train", LONG), ("b", "train", LONG + " please"), ("c", "train", LONG[:40] + " and nothing else"))
    assert dispositions(table) == {"b": ("near_copy", "a")}
    signed = sign(table, COPIES)
    similarity = in_process.dispositions(signed, COPIES)["similarity"].to_pylist()
    assert similarity == [pytest.approx(0.95, abs=0.1)]


def test_train_loses_to_the_holdout_even_with_a_smaller_id():
    table = ingested(("a", "train", LONG), ("z", "holdout", LONG), ("b", "train", LONG + " please"))
    assert dispositions(table) == {"a": ("holdout_copy", "z"), "b": ("holdout_near", "z")}


def test_copies_within_the_holdout_keep_one():
    assert dispositions(ingested(("b", "holdout", LONG), ("a", "holdout", LONG), ("c", "holdout", LONG + " please"))) == {
        "b": ("exact_copy", "a"),
        "c": ("near_copy", "a"),
    }


def test_equal_rows_of_one_source_keep_the_earliest():
    table = ingested(("a", "train", "same"), ("a", "train", "same"))
    signed = sign(table, COPIES)
    found = in_process.dispositions(signed, COPIES)
    assert found["row_key"].to_pylist() == [2]


def test_repeated_source_id_is_a_reject():
    table = ingested(("b", "train", "one", {"source_id": "7"}), ("a", "train", "two", {"source_id": "7"}), ("c", "train", "two"))
    signed = sign(table, COPIES)
    found = in_process.dispositions(signed, COPIES).to_pylist()
    assert [(row["row_key"], row["disposition"], row["detail"]) for row in found] == [(2, "duplicate_id", "line 1 has the same id")]


def test_repeated_source_id_in_another_file_is_said():
    rows = [("a", "train", "one", {"source_id": "7"}), ("b", "train", "two", {"source_id": "7", "row_key": 1 << LINE_BITS | 4})]
    [row] = in_process.dispositions(sign(ingested(*rows), COPIES), COPIES).to_pylist()
    assert row["detail"] == "line 1 of another file of the source has the same id"


def test_equal_source_ids_of_two_sources_are_valid():
    assert dispositions(ingested(("a", "train", "one", {"source_id": "7"}), ("b", "holdout", "two", {"source_id": "7"}))) == {}


@pytest.mark.parametrize("seed", range(4))
def test_dispositions_are_the_same_for_any_order_of_rows(seed):
    rng = random.Random(seed)
    sides = ["train" if n % 7 else "holdout" for n in range(40)]
    table = ingested(*((f"{n:02d}", sides[n], LONG[: 40 + 9 * (n % 9)] + " x" * (n % 3)) for n in range(40)))
    expected = dispositions(table)
    assert expected
    order = list(range(len(table)))
    rng.shuffle(order)
    shuffled = table.take(order)
    assert dispositions(shuffled) == expected


def test_label_sends_every_row_to_exactly_one_table_and_divides_shards_by_id():
    rows = [(f"{n:02d}", "train", f"text number {n} is not like {n * n} others {n * 7}") for n in range(10)]
    reject = ("x", "train", "", {"reason": "empty", "prompt_id": None})
    rows += [("00h", "holdout", "held out"), reject, ("09b", "train", rows[9][2])]
    table = ingested(*rows)
    signed = sign(table, COPIES)
    found = in_process.dispositions(signed, COPIES)
    [kept] = tables.kept_by_range(signed, found, 1)
    shard_bounds = tables.shard_bounds(tables.sorted_ids(kept)[1], {"prompts": 0, "holdout": 0}, shard_rows=4)
    labelled = tables.label(table, found, shard_bounds)
    assert sum(tables.select_table(labelled, name).num_rows for name in tables.TABLES) == len(rows)
    counted = {row["value"]: row["rows"] for row in tables.count(labelled).to_pylist() if row["kind"] == "disposition"}
    assert counted == {"prompts": 10, "holdout": 1, "empty": 1, "exact_copy": 1}
    prompts = tables.select_table(labelled, "prompts").sort_by("prompt_id")
    assert prompts["shard"].to_pylist() == [0] * 4 + [1] * 4 + [2] * 2
    assert pc.all(pc.is_in(labelled["disposition"], pa.array(["prompts", "holdout", *REJECTED, *PROMPT_DROPS]))).as_py()


def test_block_of_a_later_round_has_signatures_of_the_same_width():
    signed = sign(ingested(("a", "train", LONG, {"round": 1})), COPIES)
    repeated = [pa.table({"id": pa.array([], pa.int64())})]
    assert [by_text(signed, *repeated, last=last, num_perm=128).signatures.shape for last in (0, 1)] == [(0, 128), (1, 128)]
