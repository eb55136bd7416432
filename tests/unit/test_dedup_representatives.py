"""The documents that stay are chosen by the declared order, in any order of the input."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.contract.prompts import Copies
from engine.dedup import representatives
from engine.dedup.components import Roots
from engine.dedup.signature import SemanticMatcher

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
    return made.append_column("has_signature", pa.array([row[2] == 1 for row in rows]))


def minima(rows):
    kinds = {1: [1, 2, 3, 4], 2: [1, 2, 3, 9]}
    return np.array([kinds[row[1]] for row in rows if row[2] == 1], np.uint32)


@pytest.mark.parametrize("seed", range(3))
def test_keeper_is_the_first_of_the_order_and_the_rest_say_what_they_lost_to(seed):
    rows = [ROWS[n] for n in np.random.default_rng(seed).permutation(len(ROWS))]
    found = representatives.resolve(table(rows), minima(rows), ORDER, Copies())
    assert found.table.drop_columns(["batch", "position"]).to_pylist() == [
        {"id": "d", "duplicate_of": "c", "similarity": 1.0, "method": "exact"},
        {"id": "b", "duplicate_of": "c", "similarity": 0.75, "method": "minhash"},
        {"id": "a", "duplicate_of": "c", "similarity": 0.75, "method": "minhash"},
    ]
    assert found.positions.tolist() == [ord("a"), ord("b"), ord("d")]


def test_no_component_no_duplicate():
    found = representatives.resolve(table(ROWS[-1:]), minima(ROWS[-1:]).reshape(0, 4), ORDER, Copies())
    assert found.table.num_rows == 0 == len(found.positions)


def test_label_components_gives_each_document_its_component_and_place():
    rows = pa.table({"id": ["x", "y", "z"]})
    roots = [Roots(np.array([5, 7], np.uint64), np.array([5, 5], np.uint64)), Roots(*2 * [np.empty(0, np.uint64)])]
    labelled = representatives.label_components(rows, np.array([7, 1, 5], np.uint64), roots, number=3)
    assert labelled["root"].to_pylist() == [5, 1, 5] and labelled["has_signature"].to_pylist() == [True, False, True]
    assert labelled["position"].to_pylist() == [3 << 32, (3 << 32) + 1, (3 << 32) + 2]


@pytest.mark.parametrize("ids", [pa.array([3, -1, 3]), pa.array(["a", "b", "a"]), pa.array([1.5, 2.5, 1.5])])
def test_an_id_that_two_documents_have_is_found(ids):
    found = representatives.id_hashes(pa.table({"id": ids}))
    assert representatives.repeated_hash(found[:2], found[2:]) == int(found[0])
    assert representatives.repeated_hash(found[:2]) is None


def test_semantic_duplicates_lose_only_to_a_row_that_is_near_and_equal_texts_share_a_leader():
    """Texts 1, 2, 3, 4 are a chain of steps of 20 degrees; with 0.93 a step is near and two steps are not."""
    angle = np.radians([0, 20, 40, 60])
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    rows = [
        ("a", 1, 1, True, 0, 0),
        ("b", 2, 1, True, 0, 1),
        ("c", 3, 1, True, 0, 2),
        ("d", 4, 1, True, 0, 3),
        ("e", 2, 1, True, 0, 4),
    ]
    given = table(rows).set_column(0, "id", pa.array([row[0] for row in rows]))
    found = representatives.resolve(given, vectors[[0, 1, 2, 3, 1]], ORDER, SemanticMatcher(Path("model"), 0.93))
    assert [(row["id"], row["duplicate_of"], row["method"]) for row in found.table.to_pylist()] == [
        ("b", "a", "semantic"), ("d", "c", "semantic"), ("e", "a", "semantic"),
    ]  # fmt: skip
    assert found.table["similarity"].to_pylist() == pytest.approx([np.cos(np.radians(20))] * 3, abs=1e-5)
