"""Duplicates by text, semantic duplicates, topic clusters and picks are the same for any order of the input."""

import weakref

import faiss
import in_process
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from in_process import decide

from engine.contract.curation import Curation, Decontaminate, Pick, Semantic
from engine.contract.prompts import Copies
from engine.curation import decide_flow, lost_flow, pick_flow, topics
from engine.curation.dispositions import coverage
from engine.curation.embedder import EMBEDDED
from engine.curation.entries import entries as entries_of
from engine.curation.ngram_index import PROTECTED, NgramIndex
from engine.curation.samples import BEST_FIRST, best
from engine.curation.text_duplicates import resolve, signed
from engine.curation.topics import typical_words
from engine.dedup import plan
from engine.distributed.thread_pool import Ref
from engine.records.dataset import StageCounts
from engine.rows import content_id

NO_HOLDOUT = NgramIndex({}, [])
LONG = "please send eight blue hand mirrors and two green lamps to the usual address before the end of next week"
SECTION = Curation(minhash=Copies(threshold=0.7, ngram=2), semantic=Semantic(threshold=0.9), pick=Pick(clusters=4, per_cluster=3))


def entries(texts, *, section=SECTION, order=None):
    """One answer for each text; the answer_id is its place, a later one has less confidence."""
    rows = [
        {"answer_id": f"a{n:02d}", "prompt_id": f"p{n:02d}", "text": text, "layer": "core", "difficulty": "easy", "answer": "x",
         "agreement": 1.0, "confidence": 1 - n / 100, "pool": "train", "task_unit": "order"}
        for n, text in enumerate(texts)
    ]  # fmt: skip
    return best(entries_of(pa.Table.from_pylist([rows[n] for n in order] if order is not None else rows), NO_HOLDOUT, section))


def decided(table, section=SECTION):
    return resolve(table, [in_process.duplicates(signed(table, section), section.minhash, BEST_FIRST)], section)


def dispositions(table, section=SECTION):
    found = decided(table, section).to_pylist()
    return {row["answer_id"]: (row["dropped_by"], row["duplicate_of"]) for row in found}


def test_exact_and_near_copies_lose_to_the_surest():
    texts = [LONG, "something else altogether", LONG.upper(), LONG + " please", "something  else altogether"]
    assert dispositions(entries(texts)) == {"a02": ("exact", "a00"), "a03": ("minhash", "a00"), "a04": ("exact", "a01")}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (SECTION.model_copy(update={"minhash": None}), {"a01": ("exact", "a00")}),
        (SECTION.model_copy(update={"exact": False}), {"a01": ("minhash", "a00"), "a02": ("minhash", "a00")}),
        (SECTION.model_copy(update={"exact": False, "minhash": None}), {}),
    ],
)
def test_a_stage_that_is_turned_off_drops_nothing(section, expected):
    assert dispositions(entries([LONG, LONG, LONG + " please"], section=section), section) == expected


@pytest.mark.parametrize("seed", range(3))
def test_copies_are_the_same_for_shuffled_input(seed):
    texts = [LONG[: 40 + 9 * (n % 7)] + " x" * (n % 3) for n in range(40)]
    order = np.random.default_rng(seed).permutation(40)
    expected = dispositions(entries(texts))
    assert expected and dispositions(entries(texts, order=order)) == expected


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


def test_clusters_are_numbered_by_size_and_never_more_than_rows():
    sizes = np.bincount(decide(embedded(vectors(80)), SECTION).dispositions["cluster"].to_numpy())
    assert sizes.sum() == 80 and len(sizes) == 4 and (np.diff(sizes) <= 0).all()
    assert set(decide(embedded(vectors(3)), SECTION).dispositions["cluster"].to_pylist()) <= {0, 1, 2}
    assert decide(embedded(vectors(1)), SECTION).dispositions["cluster"].to_pylist() == [0]


def places_of(found):
    rows = decide(embedded(found), SECTION).dispositions.sort_by("answer_id")
    return np.stack([rows["x"].to_numpy(), rows["y"].to_numpy()], axis=1)


def test_map_is_the_first_two_principal_components_with_a_fixed_sign():
    found = vectors(50)
    places = places_of(found)
    variance = np.linalg.svd(found - found.mean(axis=0), compute_uv=False) ** 2
    assert (places**2).sum(axis=0) == pytest.approx(variance[:2], rel=1e-3)
    assert np.allclose(places_of(found[::-1])[::-1], places, atol=1e-5)
    assert places_of(found[:1]).tolist() == [[0, 0]]


def test_typical_words_are_those_of_the_cluster_alone():
    texts = ["order lamps today", "order lamps now", "order mirrors today", "order mirrors now"]
    found = typical_words(texts, np.array([0, 0, 1, 1]), count=1)
    assert found == {0: "lamps", 1: "mirrors"}


def test_every_row_gets_a_position_and_exactly_one_disposition():
    found = decide(embedded(vectors(40)), SECTION)
    rows = found.dispositions.to_pylist()
    assert len(rows) == 40 and {row["dropped_by"] for row in rows} == {"", "semantic", "quota"}
    kept = {row["answer_id"] for row in rows if row["dropped_by"] != "semantic"}
    for row in rows:
        assert (row["duplicate_of"] in kept) == (row["dropped_by"] == "semantic")
        assert (row["similarity"] is None) == (row["dropped_by"] != "semantic")
        assert row["x"] is not None and row["cluster"] >= 0
    assert sum(one.rows for one in found.clusters) == 40
    assert all(one.picked <= 3 for one in found.clusters)
    assert sum(one.picked for one in found.clusters) == sum(row["dropped_by"] == "" for row in rows)


@pytest.mark.parametrize("seed", range(3))
def test_decide_picks_the_same_for_shuffled_input(seed):
    found = vectors(40)
    order = np.random.default_rng(seed).permutation(40)
    assert decide(embedded(found, order=order), SECTION).dispositions.equals(decide(embedded(found), SECTION).dispositions)


ORDERS = {
    "typical": {"per_cluster": 30, "count": 90},
    "k_center": {"count": 20, "quotas": {"cluster": {"*": 6}}},
    "facility_location": {"count": 20, "quotas": {"layer": {"core": 0.5}}},
    "information": {"count": 50},
    "deita": {"quotas": {"cluster": {"*": 12}}},
}


def hashed(count):
    """EMBEDDED with ids that are hashes, as those of real rows are, and with the columns that orders and quotas read."""
    rows = embedded(vectors(count, spread=0.4, centres=12)).to_pylist()
    rng = np.random.default_rng(5)
    for row in rows:
        row |= {"prompt_id": content_id(row["prompt_id"]), "answer_id": content_id(row["answer_id"]), "mean_nll": rng.random()}
        row |= {"layer": ("core", "long_tail")[rng.integers(2)], "task_unit": "order", "difficulty": "easy"}
        row |= {"complexity": rng.random(), "quality": rng.random()}
    return pa.Table.from_pylist(rows, EMBEDDED)


@pytest.mark.parametrize("order", ORDERS)
def test_many_shards_decide_as_one(order, monkeypatch):
    section = SECTION.model_copy(update={"pick": Pick.model_validate({"clusters": 5, "order": order, **ORDERS[order]})})
    section = section.model_copy(update={"decontaminate": Decontaminate(similarity={"prompt": 0.995})})
    rows = hashed(400)
    protected = pa.table({"list": ["holdout"] * 3, "id": ["h1", "h2", "h3"], "kind": ["prompt"] * 3})
    protected = protected.append_column("embedding", rows["embedding"].slice(0, 3))
    one = decide(rows, section, protected)
    assert set(one.dispositions["dropped_by"].to_pylist()) == {"", "semantic", "contaminated", "quota"}
    monkeypatch.setattr(decide_flow, "SHARD_ROWS", 60)
    monkeypatch.setattr(plan, "VECTORS_PER_TASK", 90)
    monkeypatch.setattr(lost_flow, "PARTS_AT_ONCE", 2)  # of five parts of clusters
    for blocks, range_rows in ((1, pick_flow.RANGE_ROWS), (3, 50)):
        monkeypatch.setattr(pick_flow, "RANGE_ROWS", range_rows)
        many = decide(rows, section, protected, blocks=blocks)
        names = ["answer_id", "dropped_by", "duplicate_of", "cluster"]
        assert many.dispositions.select(names).equals(one.dispositions.select(names))
        for name in ("similarity", "x", "y"):
            found, expected = (table.dispositions[name].to_numpy() for table in (many, one))
            assert found == pytest.approx(expected, abs=1e-5, nan_ok=True)
        assert many.clusters == one.clusters and many.selection == one.selection
        assert len(many.resemblance) == 7


def test_shards_grow_where_their_number_is_limited(monkeypatch):
    rows = hashed(400)
    monkeypatch.setattr(decide_flow, "SHARD_ROWS", 60)
    seven = decide(rows, SECTION, blocks=5)
    monkeypatch.setattr(decide_flow, "MOST_PARTS", 3)  # also of the bundles of the 5 blocks
    three = decide(rows, SECTION, blocks=5)
    assert (len(seven.resemblance), len(three.resemblance)) == (7, 3)
    names = ["answer_id", "dropped_by", "duplicate_of", "cluster"]
    assert three.dispositions.select(names).equals(seven.dispositions.select(names))


def test_clusters_of_many_rows_are_described_by_evenly_spread_ones(monkeypatch):
    rows = hashed(400)
    whole = decide(rows, SECTION)
    assert all(one.label for one in whole.clusters) and len(whole.clusters) == 4
    monkeypatch.setattr(decide_flow, "DESCRIBED", 2)
    few = decide(rows, SECTION)
    assert few.dispositions.equals(whole.dispositions)
    assert 1 <= sum(one.label != "" for one in few.clusters) <= 2


def test_where_all_rows_are_contaminated_none_stays(monkeypatch):
    rows = hashed(30)
    protected = pa.table({"list": ["l"] * 30, "id": ["h"] * 30, "kind": ["prompt"] * 30, "embedding": rows["embedding"]})
    section = SECTION.model_copy(update={"decontaminate": Decontaminate(similarity={"prompt": 0.9})})
    for shard_rows in (30, 10):
        monkeypatch.setattr(decide_flow, "SHARD_ROWS", shard_rows)
        found = decide(rows, section, protected)
        assert set(found.dispositions["dropped_by"].to_pylist()) == {"contaminated"}
        assert found.selection and found.selection.coverage is None


@pytest.mark.parametrize("shard_rows", [40, 10])
def test_shards_without_rows_and_shards_of_which_no_row_has_a_rationale_are_compared_too(shard_rows, monkeypatch):
    rows = hashed(40).sort_by("prompt_id")
    first, vector = rows["answer_id"][0].as_py(), rows["embedding"][0].as_py()
    rationales = pa.array([vector] + [None] * 39, EMBEDDED.field("rationale_embedding").type)
    rows = rows.set_column(rows.column_names.index("rationale_embedding"), "rationale_embedding", rationales)
    prompt_ids = pa.array(["0" + name[1:] for name in rows["prompt_id"].to_pylist()])  # all in the first shard
    for table in (rows, rows.set_column(rows.column_names.index("prompt_id"), "prompt_id", prompt_ids)):
        protected = pa.table({"list": ["l"], "id": ["h"], "kind": ["reference"], "embedding": pa.array([vector])})
        section = SECTION.model_copy(update={"decontaminate": Decontaminate(similarity={"rationale": 0.99})})
        monkeypatch.setattr(decide_flow, "SHARD_ROWS", shard_rows)
        found = decide(table, section, protected).dispositions
        out = found.filter(pc.equal(found["dropped_by"], "contaminated"))
        assert len(found) == 40 and out["answer_id"].to_pylist() == [first]


class Counting(in_process.InProcess):
    """Knows the most rows with vectors that references have held at the same time."""

    def __init__(self, given):
        self.alive, self.most = weakref.WeakSet(given), 0

    def start(self, op, *args, returns=1):
        refs = super().start(op, *args, returns=returns)
        self.alive.update(refs)
        held = (ref.result() for ref in self.alive)
        self.most = max(self.most, sum(len(value) for value in held if isinstance(value, pa.Table | np.ndarray)))
        return refs


def test_rows_with_their_vectors_are_held_once(monkeypatch):
    """Of ten million rows three copies are 60 GB, in memory or on a disk."""
    monkeypatch.setattr(decide_flow, "SHARD_ROWS", 20)
    rows, none = hashed(1000), Ref.of(PROTECTED.empty_table())
    blocks = [Ref.of(rows.slice(start, 20)) for start in range(0, 1000, 20)]
    executor = Counting(blocks)
    shards = decide_flow.shards_of(blocks, 1000, none, SECTION, executor)
    assert sum(shards.rows) == 1000 and 1000 <= executor.most < 1100


@pytest.mark.parametrize("count", [80, 3000])
def test_centres_are_those_that_faiss_trains_on_all_rows(count):
    found = vectors(count)
    kmeans = faiss.Kmeans(16, 4, niter=25, seed=3, spherical=True, min_points_per_centroid=1)
    kmeans.train(found)
    rows = topics.training_rows(count, count=4, seed=3)
    assert len(rows) == min(count, 1024)
    assert (topics.train(found[rows], count=4, seed=3) == kmeans.centroids).all()


def test_no_rows_give_no_dispositions():
    assert decide(embedded(vectors(0)), SECTION).dispositions.num_rows == 0


def test_coverage_counts_prompts_before_and_after():
    table = entries([LONG, LONG + " please", "else"])
    decisions = decided(table)
    assert coverage(table, decisions)["layer"] == {"core": StageCounts(prompts=3, accepted=3, picked=2)}
