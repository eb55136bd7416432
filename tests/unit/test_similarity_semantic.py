"""Near copies by meaning: the same groups as comparing all with all, in tiles, over borders between clusters, without a square."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from engine.dedup import components, semantic
from engine.dedup.semantic import fit, joining, near, near_pairs, place
from engine.dedup.vectors import column, matrix


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def planted(count, *, copies=1, noise=0.02, dimensions=24, seed=0):
    """Random unit vectors, each followed by `copies` perturbed ones: cosine about 1 - noise^2 * dimensions / 2."""
    rng = np.random.default_rng(seed)
    base = np.repeat(unit(rng.normal(size=(count, dimensions))), copies + 1, axis=0)
    return unit(base + noise * rng.normal(size=base.shape))


def ids_of(vectors):
    return pa.array([f"id{number:05d}" for number in range(len(vectors))], pa.string())


def groups(left, right, count):
    """The smallest member of each row's component."""
    graph = coo_matrix((np.ones(len(left)), (left, right)), shape=(count, count))
    label = connected_components(graph, directed=False)[1]
    smallest = np.full(count, count)
    np.minimum.at(smallest, label, np.arange(count))
    return smallest[label].tolist()


def groups_by_brute_force(vectors, threshold):
    return groups(*np.nonzero(np.triu(vectors @ vectors.T >= threshold, 1)), len(vectors))


def groups_of(pairs, ids):
    where = {one: number for number, one in enumerate(ids.to_pylist())}
    left, right = ([where[one] for one in pairs[side].to_pylist()] for side in ("a", "b"))
    return groups(left, right, len(ids))


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("tile", [7, 2048])
def test_groups_are_those_of_brute_force_when_every_cluster_is_visited(threshold, tile, monkeypatch):
    monkeypatch.setattr(semantic, "TILE", tile)
    vectors = planted(60, copies=2, noise=0.03, dimensions=12)
    found = near_pairs(ids_of(vectors), vectors, threshold=threshold, clusters=6, reach=6)
    expected = groups_by_brute_force(vectors, threshold)
    assert groups_of(found, ids_of(vectors)) == expected
    assert 1 < len(set(expected)) < len(vectors)


def test_each_pair_carries_its_cosine_and_passes_the_threshold():
    vectors = planted(40)
    found = near_pairs(ids_of(vectors), vectors, threshold=0.9, clusters=4, reach=2)
    a, b = (np.array([int(one[2:]) for one in found[side].to_pylist()]) for side in ("a", "b"))
    assert len(found) >= 40 and (a < b).all()
    assert found["similarity"].to_numpy() == pytest.approx((vectors[a] * vectors[b]).sum(axis=1), abs=1e-6)
    assert found["similarity"].to_numpy().min() >= 0.9


def test_planted_near_copies_are_found_over_the_borders_of_clusters():
    """In fewer clusters a pair meets more often: of planted pairs at cosine 0.97 all must be found with 4 of 40, not so with 1."""
    vectors = planted(2000, noise=0.05)
    expected = {(f"id{n:05d}", f"id{n + 1:05d}") for n in range(0, 4000, 2) if vectors[n] @ vectors[n + 1] >= 0.93}
    recall = {}
    for reach in (1, 4):
        found = near_pairs(ids_of(vectors), vectors, threshold=0.93, clusters=40, reach=reach)
        recall[reach] = len(expected & set(zip(found["a"].to_pylist(), found["b"].to_pylist(), strict=True))) / len(expected)
    assert len(expected) > 1500
    assert recall[4] > 0.995 > recall[1]


def test_one_cluster_of_nothing_but_copies_gives_fewer_pairs_than_rows(monkeypatch):
    monkeypatch.setattr(semantic, "TILE", 32)
    vectors = planted(1, copies=499, noise=0.01)
    found = joining(vectors, 500, threshold=0.9)
    assert len(found.left) == 499
    assert len(set(groups(found.left, found.right, 500))) == 1


@pytest.mark.parametrize("seed", range(3))
def test_pairs_do_not_depend_on_the_order_of_the_input(seed):
    vectors = planted(200, noise=0.06)
    order = np.random.default_rng(seed).permutation(len(vectors))
    expected = near_pairs(ids_of(vectors), vectors, threshold=0.9, clusters=8)
    assert near_pairs(ids_of(vectors).take(pa.array(order)), vectors[order], threshold=0.9, clusters=8).equals(expected)
    assert len(expected) > 100


def test_pairs_do_not_depend_on_which_clusters_lie_together():
    vectors = planted(200)
    placed = place(ids_of(vectors), vectors, fit(vectors, clusters=8))
    expected = near(placed, threshold=0.9).sort_by([("a", "ascending"), ("b", "ascending"), ("similarity", "ascending")])
    number = placed["cluster"].to_numpy()
    parts = [near(placed.filter(pa.array(number % 3 == part)), threshold=0.9) for part in range(3)]
    assert pa.concat_tables(parts).sort_by([("a", "ascending"), ("b", "ascending"), ("similarity", "ascending")]).equals(expected)


def test_each_row_lives_in_one_cluster_and_visits_the_next_nearest():
    vectors = planted(100)
    placed = place(ids_of(vectors), vectors, fit(vectors, clusters=10), reach=3).to_pydict()
    assert len(placed["id"]) == 600 and sum(placed["visits"]) == 400
    assert len(set(zip(placed["id"], placed["cluster"], strict=True))) == 600
    assert matrix(pa.array(placed["embedding"], pa.list_(pa.float32()))).shape == (600, 24)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_rows_are_no_trouble(count):
    vectors = planted(1)[:count]
    found = near_pairs(ids_of(vectors), vectors, threshold=0.9)
    assert found.schema.types == [pa.string(), pa.string(), pa.float32()] and len(found) == (count == 2)


def test_ids_may_be_numbers():
    vectors = planted(20)
    keys = np.random.default_rng(0).permutation(40).astype(np.uint64) + np.uint64(2**63)
    found = near_pairs(pa.array(keys), vectors, threshold=0.9)
    assert found["a"].type == pa.uint64() and (found["a"].to_numpy() < found["b"].to_numpy()).all() and len(found) == 20


def test_vectors_survive_arrow():
    vectors = planted(5)
    there = column(vectors)
    assert (matrix(there) == vectors).all()
    assert (matrix(pa.chunked_array([there.slice(1, 2), there.slice(4, 1)])) == vectors[[1, 2, 4]]).all()


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("parts", [1, 4])
def test_edges_over_blocks_and_tasks_join_what_near_pairs_joins(blocks, parts):
    vectors = planted(3000, noise=0.01)
    nodes = np.random.default_rng(3).integers(1 << 63, size=len(vectors), dtype=np.uint64)
    clusters = semantic.clusters_for(len(nodes))
    cut = [(nodes[at], vectors[at]) for at in np.array_split(np.random.default_rng(blocks).permutation(len(nodes)), blocks)]
    cut.append((nodes[:50], vectors[:50]))  # what two blocks have is no pair
    share = clusters * semantic.SAMPLE_PER_CLUSTER / len(nodes)
    centres = semantic.centres_of([semantic.draw(*block, share=share) for block in cut], clusters=clusters)
    dealt = [semantic.deal(*block, centres, parts) for block in cut]
    found = [semantic.meet([block[part] for block in dealt], threshold=0.98) for part in range(parts)]
    roots = components.roots(np.concatenate(found, axis=1))
    expected = components.roots(np.stack([nodes[0::2], nodes[1::2]]))  # planted: each second one is a copy of the one before
    assert (roots.node.tolist(), roots.root.tolist()) == (expected.node.tolist(), expected.root.tolist())
