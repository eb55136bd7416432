"""One document of a component stays, by the declared order, wherever the documents stand."""

import numpy as np
import pyarrow as pa
import pytest

from engine.dedup import representatives
from engine.dedup.components import Roots

ORDER = [("verified", "descending"), ("score", "descending"), ("length", "ascending"), ("id", "ascending")]
# id, text, root, verified, score, length
ROWS = [
    ("a", 1, 1, False, 0.9, 5),
    ("b", 1, 1, True, 0.1, 9),
    ("c", 2, 1, True, 0.1, 7),
    ("d", 2, 1, True, 0.1, 7),
    ("e", 3, 3, True, 1.0, 1),
]


def table(rows):
    columns = list(zip(*rows, strict=True))
    names = ["id", "text", "root", "verified", "score", "length"]
    types = [pa.string(), pa.uint64(), pa.uint64(), pa.bool_(), pa.float64(), pa.int64()]
    made = pa.table({name: pa.array(column, kind) for name, column, kind in zip(names, columns, types, strict=True)})
    made = made.append_column("batch", pa.array([0] * len(rows))).append_column("listed", pa.array([True] * len(rows)))
    made = made.append_column("position", pa.array([ord(row[0]) for row in rows], pa.uint64()))
    return made.append_column("has_minima", pa.array([row[2] == 1 for row in rows]))


def minima(rows):
    kinds = {1: [1, 2, 3, 4], 2: [1, 2, 3, 9]}
    return np.array([kinds[row[1]] for row in rows if row[2] == 1], np.uint32)


@pytest.mark.parametrize("seed", range(3))
def test_keeper_is_the_first_of_the_order_and_the_rest_say_what_they_lost_to(seed):
    rows = [ROWS[n] for n in np.random.default_rng(seed).permutation(len(ROWS))]
    found = representatives.settle(table(rows), minima(rows), ORDER, method="minhash")
    assert found.duplicates.drop_columns(["batch"]).to_pylist() == [
        {"id": "d", "rep": "c", "similarity": 1.0, "method": "exact"},
        {"id": "b", "rep": "c", "similarity": 0.75, "method": "minhash"},
        {"id": "a", "rep": "c", "similarity": 0.75, "method": "minhash"},
    ]
    assert found.places.tolist() == [ord("a"), ord("b"), ord("d")]


def test_no_component_no_duplicate():
    found = representatives.settle(table(ROWS[-1:]), minima(ROWS[-1:]).reshape(0, 4), ORDER, method="minhash")
    assert found.duplicates.num_rows == 0 == len(found.places)


def test_tell_gives_each_document_its_component_and_place():
    rows = pa.table({"id": ["x", "y", "z"]})
    roots = [Roots(np.array([5, 7], np.uint64), np.array([5, 5], np.uint64)), Roots(*2 * [np.empty(0, np.uint64)])]
    told = representatives.tell(rows, np.array([7, 1, 5], np.uint64), roots, number=3)
    assert told["root"].to_pylist() == [5, 1, 5] and told["has_minima"].to_pylist() == [True, False, True]
    assert told["position"].to_pylist() == [3 << 32, (3 << 32) + 1, (3 << 32) + 2]


@pytest.mark.parametrize("ids", [pa.array([3, -1, 3]), pa.array(["a", "b", "a"]), pa.array([1.5, 2.5, 1.5])])
def test_an_id_that_two_documents_have_is_found(ids):
    found = representatives.hashed(pa.table({"id": ids}))
    assert representatives.repeated(found[:2], found[2:]) == int(found[0])
    assert representatives.repeated(found[:2]) is None
