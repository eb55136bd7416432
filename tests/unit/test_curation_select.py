"""Which rows are picked by each order and quota, and the coverage and balance of the picks."""

import numpy as np
import pyarrow as pa
import pytest

from engine.contract.curation import Curation, Pick
from engine.contract.signals import SIGNALS
from engine.curation import measure
from engine.curation import select as module
from engine.curation.measure import STRATA, evenness, measured, weights_of
from engine.curation.select import ORDERS, Eligible, density, facility_location, k_center, landmarks, select
from engine.curation.vector_shards import VectorShards
from engine.distributed.thread_pool import Ref
from engine.records.base import BeforeAfter


def eligible(count=120, *, seed=0, lumps=6):
    """Points in lumps of very different sizes; the cluster is the lump, the rank the position in it."""
    rng = np.random.default_rng(seed)
    cluster = np.sort(rng.choice(lumps, count, p=np.arange(lumps, 0, -1) ** 2 / (np.arange(1, lumps + 1) ** 2).sum()))
    found = np.eye(lumps, 16)[cluster] + 0.15 * rng.normal(size=(count, 16))
    rank = np.arange(count) - np.searchsorted(cluster, cluster)
    strata = {
        "layer": rng.choice(["core", "failure_mode", "long_tail"], count, p=[0.7, 0.2, 0.1]).tolist(),
        "difficulty": rng.choice(["easy", "hard"], count).tolist(),
        "task_unit": rng.choice(["a", "b"], count).tolist(),
        "cluster": cluster.astype(str).tolist(),
    }
    vectors = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    mean_nll, *values = rng.random((1 + len(SIGNALS), count)).astype(np.float32)
    return Eligible(vectors, rank, cluster, mean_nll, strata, dict(zip(SIGNALS, values, strict=True)))


def pick(**more):
    return Pick.model_validate(more)


def selection(rows, is_picked, *, shards=1):
    """The measures of `rows`, measured in `shards`."""
    mean, marks = rows.vectors.mean(axis=0), rows.vectors[landmarks(len(rows.vectors))]
    cuts = [np.arange(len(is_picked))[part] for part in np.array_split(np.arange(len(is_picked)), shards)]
    parts = [
        Eligible(
            rows.vectors[cut], rows.round_robin_rank[cut], rows.cluster[cut], rows.mean_nll[cut],
            {name: [values[row] for row in cut] for name, values in rows.strata.items()},
            {name: values[cut] for name, values in rows.signals.items()},
        )
        for cut in cuts
    ]  # fmt: skip
    return measure.selection([measured(part, is_picked[cut], mean, marks) for part, cut in zip(parts, cuts, strict=True)])


def balance(values, is_picked):
    """The evenness of a stratum with these `values`."""
    count = len(values)
    strata = {stratum: values for stratum in STRATA}
    rows = Eligible(np.eye(count, dtype=np.float32), np.zeros(count), np.zeros(count, int), np.zeros(count), strata)
    return selection(rows, is_picked).balance["layer"]


def counts(rows, is_picked, stratum):
    return {value: sum(np.array(rows.strata[stratum])[is_picked] == value) for value in sorted(set(rows.strata[stratum]))}


def test_nothing_is_left_out_if_the_contract_limits_nothing():
    assert select(eligible(), pick(order="k_center")).all()


@pytest.mark.parametrize("order", ORDERS)
def test_each_order_uses_up_the_count_and_keeps_every_quota(order):
    rows = eligible()
    section = pick(order=order, count=30, quotas={"layer": {"core": 0.5, "long_tail": 3}, "cluster": {"*": 12, "0": 5}})
    found = select(rows, section)
    layer, cluster = counts(rows, found, "layer"), counts(rows, found, "cluster")
    assert layer["core"] <= 15 and layer["long_tail"] <= 3
    assert cluster["0"] <= 5 and max(cluster.values()) <= 12
    full = {"core": layer["core"] == 15, "long_tail": layer["long_tail"] == 3, "failure_mode": False}
    room = {name: number < (5 if name == "0" else 12) for name, number in cluster.items()}
    could = [not full[a] and room[b] for a, b in zip(rows.strata["layer"], rows.strata["cluster"], strict=True)]
    assert found.sum() == 30 or not (np.array(could) & ~found).any()


@pytest.mark.parametrize("order", ORDERS)
def test_each_order_stops_where_all_quotas_are_used_up(order):
    found = select(eligible(), pick(order=order, quotas={"difficulty": {"easy": 4, "hard": 0.0}}, count=50))
    assert found.sum() == 4


def test_share_of_a_count_is_not_one_less_for_want_of_a_bit():
    rows = eligible(400, lumps=4)
    found = select(rows, pick(count=100, quotas={"difficulty": {"easy": 0.29}}))
    assert counts(rows, found, "difficulty") == {"easy": 29, "hard": 71}


def test_per_cluster_is_a_quota_of_each_cluster():
    rows = eligible(200, lumps=4)
    found = select(rows, pick(per_cluster=3))
    assert set(counts(rows, found, "cluster").values()) == {3}
    assert (found == (rows.round_robin_rank < 3)).all()


def test_k_center_reaches_every_lump_before_it_takes_a_second_of_any():
    rows = eligible(seed=1)
    found = select(rows, pick(order="k_center", count=6))
    assert counts(rows, found, "cluster") == dict.fromkeys("012345", 1)


def test_k_center_is_within_twice_the_best_radius():
    """Gonzalez (1985), with Euclidean distance; the best of all pairs of centres is found by trying them."""
    rows = eligible(30, lumps=3)
    distance = np.linalg.norm(rows.vectors[:, None] - rows.vectors[None], axis=2)
    found = np.flatnonzero(k_center(rows, module.QuotaTracker(rows.strata, pick(count=2), rows=len(rows.vectors))))
    best = min(distance[:, [a, b]].min(axis=1).max() for a in range(30) for b in range(a))
    assert distance[:, found].min(axis=1).max() <= 2 * best + 1e-6


def test_facility_location_is_what_the_plain_greedy_algorithm_picks():
    rows = eligible(60)
    similarity = rows.vectors @ rows.vectors.T
    best, expected = np.zeros(60), []
    for _ in range(10):
        gain = np.maximum(similarity - best, 0).sum(axis=1)
        expected.append(int(gain.argmax()))
        best = np.maximum(best, similarity[expected[-1]])
    found = facility_location(rows, module.QuotaTracker(rows.strata, pick(count=10), rows=len(rows.vectors)))
    assert np.flatnonzero(found).tolist() == sorted(expected)


def test_orders_that_look_at_vectors_cover_better_than_chance():
    rows = eligible(300, seed=2)
    chance = np.zeros(300, bool)
    chance[np.random.default_rng(0).choice(300, 8, replace=False)] = True
    by_chance = selection(rows, chance).coverage
    mean = selection(rows, select(rows, pick(order="facility_location", count=8))).coverage
    least = selection(rows, select(rows, pick(order="k_center", count=8))).coverage
    assert by_chance and mean and least
    assert mean.mean > by_chance.mean + 0.05
    assert least.least > by_chance.least + 0.05


def test_information_comes_first_where_the_teacher_was_unsure_and_there_is_much():
    rows = eligible(lumps=2)._replace(mean_nll=np.where(np.arange(120) % 2, 1.0, 0.1).astype(np.float32))
    found = select(rows, pick(order="information", count=10))
    assert (rows.mean_nll[found] == 1).all()
    assert counts(rows, found, "cluster")["0"] == 10  # the larger lump
    expected = rows.mean_nll * (rows.vectors @ rows.vectors.T).mean(axis=1)
    assert density(rows) == pytest.approx(expected, abs=1e-5)


def test_landmarks_are_all_rows_or_spread_over_them(monkeypatch):
    assert landmarks(5).tolist() == [0, 1, 2, 3, 4]
    monkeypatch.setattr(module, "LANDMARKS", 3)
    assert landmarks(101).tolist() == [0, 50, 100]
    assert landmarks(0).tolist() == []


@pytest.mark.parametrize(("given", "expected"), [([5, 5], 1.0), ([10, 0], 0.0), ([7], None), ([3, 1], 0.8113)])
def test_evenness_is_entropy_over_its_most(given, expected):
    assert evenness(given) == expected


def test_balance_says_how_even_each_stratum_is_before_and_after():
    found = balance(["core"] * 9 + ["long_tail"], np.array([True] + [False] * 8 + [True]))
    assert found == BeforeAfter(before=0.469, after=1.0)
    assert balance(["core", "long_tail"], np.array([True, False])).after == 0.0


def test_selection_of_everything_covers_everything():
    rows = eligible()
    found = selection(rows, np.ones(120, bool))
    assert found.coverage.model_dump() == {"mean": pytest.approx(1, abs=1e-4), "least": pytest.approx(1, abs=1e-4)}
    assert found.density.before == found.density.after > 0
    assert selection(rows, np.zeros(120, bool)).coverage is None


@pytest.mark.parametrize("order", ORDERS)
def test_measures_of_shards_add_up_to_those_of_all_rows(order):
    rows = eligible()
    picked = select(rows, pick(order=order, count=30))
    whole = selection(rows, picked)
    assert whole.signals.after and whole.coverage and whole.coverage.least > 0
    for shards in (2, 7):
        assert selection(rows, picked, shards=shards).model_dump() == {
            name: pytest.approx(value, abs=2e-4) if name == "coverage" else value for name, value in whole.model_dump().items()
        }


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("sizes", [[120], [0, 50, 1, 69, 0]])
def test_each_order_picks_the_same_rows_from_vectors_in_shards(order, sizes):
    rows = eligible(seed=3)
    section = pick(order=order, count=30, quotas={"layer": {"core": 0.5}, "cluster": {"*": 12}})
    shards = [Ref.of(part) for part in np.split(rows.vectors, np.cumsum(sizes)[:-1])]
    codes = {name: pa.chunked_array([values[:50], values[50:]]).dictionary_encode() for name, values in rows.strata.items()}
    in_shards = rows._replace(vectors=VectorShards(shards, sizes), strata=codes)
    assert select(in_shards, section).tolist() == select(rows, section).tolist()


def test_vectors_in_shards_are_read_as_those_of_a_matrix():
    matrix, sizes = eligible().vectors, [50, 1, 69]
    found = VectorShards([Ref.of(part) for part in np.split(matrix, np.cumsum(sizes)[:-1])], sizes)
    assert len(found) == 120 and (found[50] == matrix[50]).all()
    for rows in (slice(40, 60), slice(3, 4), np.array([119, 0, 50, 49, 0]), np.array([7])):
        assert (found[rows] == matrix[rows]).all()
    assert found @ matrix[3] == pytest.approx(matrix @ matrix[3], abs=1e-6)
    assert found.mean(axis=0) == pytest.approx(matrix.mean(axis=0), abs=1e-6)


def test_weights_make_each_value_weigh_the_same_and_an_example_one_on_average():
    found = weights_of({"core": 6, "long_tail": 2})
    assert found["core"] * 6 == found["long_tail"] * 2 == pytest.approx(4)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"pick": {"quotas": {"layer": {"core": 0.5}}}}, "a share of pick.count, which is not given"),
        ({"pick": {"quotas": {"layer": {"cor": 5}}}}, "found 'cor', expected some of"),
        ({"pick": {"quotas": {"colour": {"red": 5}}}}, "quotas"),
        ({"pick": {"count": 5}, "semantic": None}, "pick.count: needs clusters"),
        ({"decontaminate": {"similarity": {"prompt": 0.9}}, "semantic": None}, "decontaminate.similarity: needs clusters"),
    ],
)
def test_contract_refuses_what_cannot_be_counted_or_compared(section, message):
    with pytest.raises(ValueError, match=message):
        Curation.model_validate(section)
