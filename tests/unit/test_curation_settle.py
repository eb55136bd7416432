"""Copies by text, near-duplicates by meaning, clusters: decisions that any order of the input leaves as they are."""

import in_process
import numpy as np
import pyarrow as pa
import pytest

from engine.contract.curation import Curation, Pick, Semantic
from engine.contract.prompts import Copies
from engine.curation.arrange import arrange, coverage
from engine.curation.clusters import cluster, leaders, map_of, typical_words
from engine.curation.copies import settle, sign
from engine.curation.decontaminate import Index
from engine.curation.embedder import EMBEDDED
from engine.curation.pick import enter
from engine.curation.samples import BEST_FIRST, best

NO_HOLDOUT = Index({}, [])
LONG = "please send eight blue hand mirrors and two green lamps to the usual address before the end of next week"
SECTION = Curation(minhash=Copies(threshold=0.7, ngram=2), semantic=Semantic(threshold=0.9), pick=Pick(clusters=4, per_cluster=3))


def entries(texts, *, section=SECTION, order=None):
    """One answer for each text; the answer_id is its place, a later one has less confidence."""
    rows = [
        {"answer_id": f"a{n:02d}", "prompt_id": f"p{n:02d}", "text": text, "layer": "core", "difficulty": "easy", "answer": "x",
         "agreement": 1.0, "confidence": 1 - n / 100, "pool": "train", "task_unit": "order"}
        for n, text in enumerate(texts)
    ]  # fmt: skip
    return best(enter(pa.Table.from_pylist([rows[n] for n in order] if order is not None else rows), section, NO_HOLDOUT))


def decided(table, section=SECTION):
    return settle(table, [in_process.duplicates(sign(table, section), section.minhash, BEST_FIRST)], section)


def fates(table, section=SECTION):
    found = decided(table, section).to_pylist()
    return {row["answer_id"]: (row["dropped_by"], row["duplicate_of"]) for row in found}


def test_exact_and_near_copies_lose_to_the_surest():
    texts = [LONG, "something else altogether", LONG.upper(), LONG + " please", "something  else altogether"]
    assert fates(entries(texts)) == {"a02": ("exact", "a00"), "a03": ("minhash", "a00"), "a04": ("exact", "a01")}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (SECTION.model_copy(update={"minhash": None}), {"a01": ("exact", "a00")}),
        (SECTION.model_copy(update={"exact": False}), {"a01": ("minhash", "a00"), "a02": ("minhash", "a00")}),
        (SECTION.model_copy(update={"exact": False, "minhash": None}), {}),
    ],
)
def test_a_stage_that_is_turned_off_drops_nothing(section, expected):
    assert fates(entries([LONG, LONG, LONG + " please"], section=section), section) == expected


@pytest.mark.parametrize("seed", range(3))
def test_copies_are_the_same_for_shuffled_input(seed):
    texts = [LONG[: 40 + 9 * (n % 7)] + " x" * (n % 3) for n in range(40)]
    order = np.random.default_rng(seed).permutation(40)
    expected = fates(entries(texts))
    assert expected and fates(entries(texts, order=order)) == expected


def vectors(count, *, seed=0, spread=0.3, centres=4):
    """Unit vectors around a few centres."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(centres, 16))
    found = base[rng.integers(0, centres, count)] + spread * rng.normal(size=(count, 16))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def embedded(found, *, order=None):
    rows = [
        {"prompt_id": f"p{n:02d}", "embedding": vector.tolist(), "answer_id": f"a{n:02d}", "text": f"mail number {n} about lamps",
         "scenario": f"s{n % 3}", "confidence": 1 - n / 100, "agreement": 1.0, "length": 1}
        for n, vector in enumerate(found)
    ]  # fmt: skip
    return pa.Table.from_pylist([rows[n] for n in order] if order is not None else rows, schema=EMBEDDED)


def test_leaders_lose_only_to_a_kept_row_that_is_near():
    angle = np.radians([0, 20, 40, 60])
    found = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    leader, cosine = leaders(found, np.arange(4), threshold=0.93)
    assert leader.tolist() == [0, 0, 2, 2]  # a chain of steps of 20 degrees does not lead from 0 to 60
    assert cosine.tolist() == pytest.approx([1, np.cos(np.radians(20)), 1, np.cos(np.radians(20))], abs=1e-5)


def test_leaders_agree_with_brute_force():
    found = vectors(60)
    order = np.random.default_rng(1).permutation(60)
    leader, _ = leaders(found, order, threshold=0.9)
    kept: list[int] = []
    for row in order:
        if not any(found[row] @ found[other] >= 0.9 for other in kept):
            kept.append(row)
    assert sorted(kept) == np.flatnonzero(leader == np.arange(60)).tolist()
    assert 4 < len(kept) < 60


def test_leaders_of_many_rows_are_found_in_the_clusters_that_a_row_visits(monkeypatch):
    found = vectors(3000, spread=0.25, centres=300)
    order = np.random.default_rng(1).permutation(3000)
    exact, _ = leaders(found, order, threshold=0.9)
    monkeypatch.setattr("engine.curation.clusters.EXACT", 1000)
    monkeypatch.setattr("engine.dedup.semantic.ROWS_PER_CLUSTER", 100)
    leader, cosine = leaders(found, order, threshold=0.9)
    lost = np.flatnonzero(leader != np.arange(3000))
    assert (found[lost] * found[leader[lost]]).sum(axis=1) == pytest.approx(cosine[lost], abs=1e-5)
    assert cosine[lost].min() >= 0.9 and (leader[leader] == leader).all()
    assert 1000 < len(lost) <= np.count_nonzero(exact != np.arange(3000)) * 1.01
    assert len(lost) > 0.98 * np.count_nonzero(exact != np.arange(3000))


def test_row_that_is_left_out_of_the_order_leads_nobody():
    leader, _ = leaders(np.tile(np.float32([[1, 0]]), (3, 1)), np.array([2, 1]), threshold=0.9)
    assert leader.tolist() == [0, 2, 2]


def test_clusters_are_numbered_by_size_and_never_more_than_rows():
    found = cluster(vectors(80), count=4, seed=0)
    sizes = np.bincount(found.number)
    assert sizes.sum() == 80 and (np.diff(sizes) <= 0).all()
    assert set(cluster(vectors(3), count=16, seed=0).number.tolist()) <= {0, 1, 2}
    assert cluster(vectors(1), count=16, seed=0).number.tolist() == [0]


def test_map_is_the_first_two_principal_components_with_a_fixed_sign():
    found = vectors(50)
    places = map_of(found)
    variance = np.linalg.svd(found - found.mean(axis=0), compute_uv=False) ** 2
    assert (places**2).sum(axis=0) == pytest.approx(variance[:2], rel=1e-3)
    assert np.allclose(map_of(found[::-1])[::-1], places, atol=1e-5)
    assert map_of(found[:1]).tolist() == [[0, 0]]


def test_typical_words_are_those_of_the_cluster_alone():
    texts = ["order lamps today", "order lamps now", "order mirrors today", "order mirrors now"]
    found = typical_words(texts, np.array([0, 0, 1, 1]), count=1)
    assert found == {0: "lamps", 1: "mirrors"}


def test_arrange_gives_every_row_a_place_and_exactly_one_fate():
    found = arrange(embedded(vectors(40)), SECTION)
    rows = found.decisions.to_pylist()
    assert len(rows) == 40 and {row["dropped_by"] for row in rows} == {"", "semantic", "quota"}
    kept = {row["answer_id"] for row in rows if row["dropped_by"] != "semantic"}
    for row in rows:
        assert (row["duplicate_of"] in kept) == (row["dropped_by"] == "semantic")
        assert (row["similarity"] is None) == (row["dropped_by"] != "semantic")
        assert row["x"] is not None and row["cluster"] >= 0
    assert sum(one["rows"] for one in found.clusters) == 40
    assert all(one["picked"] <= 3 for one in found.clusters)
    assert sum(one["picked"] for one in found.clusters) == sum(row["dropped_by"] == "" for row in rows)


@pytest.mark.parametrize("seed", range(3))
def test_arrange_picks_the_same_for_shuffled_input(seed):
    found = vectors(40)
    order = np.random.default_rng(seed).permutation(40)
    assert arrange(embedded(found, order=order), SECTION).decisions.equals(arrange(embedded(found), SECTION).decisions)


def test_arrange_of_nothing_is_nothing():
    assert arrange(embedded(vectors(0)), SECTION).decisions.num_rows == 0


def test_coverage_counts_prompts_before_and_after():
    table = entries([LONG, LONG + " please", "else"])
    decisions = decided(table)
    assert coverage(table, decisions)["layer"] == {"core": {"prompts": 3, "accepted": 3, "picked": 2}}
