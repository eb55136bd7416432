"""Near pairs of vectors join the same groups as comparing all with all; leaders are those of a plain greedy loop."""

import weakref
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from in_process import InProcess
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from engine.dedup import components, flow, leaders, semantic
from engine.dedup.leaders import semantic_leaders
from engine.dedup.semantic import near_pairs
from engine.dedup.signature import SemanticMatcher, SignedBlock
from engine.dedup.vectors import column, matrix


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def planted(count, *, copies=1, noise=0.02, dimensions=24, seed=0):
    """Random unit vectors, each followed by `copies` perturbed ones: cosine about 1 - noise^2 * dimensions / 2."""
    rng = np.random.default_rng(seed)
    base = np.repeat(unit(rng.normal(size=(count, dimensions))), copies + 1, axis=0)
    return unit(base + noise * rng.normal(size=base.shape))


def groups(left, right, count):
    """The smallest member of each row's component."""
    graph = coo_matrix((np.ones(len(left)), (left, right)), shape=(count, count))
    label = connected_components(graph, directed=False)[1]
    smallest = np.full(count, count)
    np.minimum.at(smallest, label, np.arange(count))
    return smallest[label].tolist()


def groups_by_brute_force(vectors, threshold):
    return groups(*np.nonzero(np.triu(vectors @ vectors.T >= threshold, 1)), len(vectors))


def groups_of(pairs, rows):
    return groups(pairs.left, pairs.right, rows)


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("tile", [7, 2048])
def test_groups_are_those_of_brute_force_when_every_cluster_is_probed(threshold, tile, monkeypatch):
    monkeypatch.setattr(semantic, "TILE", tile)
    vectors = planted(60, copies=2, noise=0.03, dimensions=12)
    expected = groups_by_brute_force(vectors, threshold)
    assert groups_of(near_pairs(vectors, threshold=threshold, clusters=6, nprobe=6), 180) == expected
    assert groups_of(near_pairs(vectors, threshold=threshold), 180) == expected  # one cluster
    assert 1 < len(set(expected)) < len(vectors)


@pytest.mark.parametrize(
    ("rows", "at_once", "parts"), [(100, 1_000, 1), (10_000_000, 1, 153), (10_000_000, 1_000, 201), (100_000_000, 1_000, 256)]
)
def test_parts_of_embeddings_are_limited_and_grow_beyond(rows, at_once, parts):
    found = flow.plan(rows, SemanticMatcher(Path("model"), 0.9), [("id", "ascending")], at_once=at_once)
    assert found.node_parts == parts


@pytest.mark.parametrize("clusters", [1, 4])
def test_each_pair_carries_its_cosine_and_passes_the_threshold(clusters):
    vectors = planted(40)
    found = near_pairs(vectors, threshold=0.9, clusters=clusters, nprobe=2)
    assert len(found.left) >= 38 and (found.left < found.right).all()
    assert found.similarity == pytest.approx((vectors[found.left] * vectors[found.right]).sum(axis=1), abs=1e-6)
    assert found.similarity.min() >= 0.9


def test_planted_near_copies_are_found_over_the_borders_of_clusters():
    """In fewer clusters a pair meets more often: of planted pairs at cosine 0.97 all must be found with 4 of 40, not so with 1."""
    vectors = planted(2000, noise=0.05)
    expected = {(n, n + 1) for n in range(0, 4000, 2) if vectors[n] @ vectors[n + 1] >= 0.93}
    recall = {}
    for nprobe in (1, 4):
        found = near_pairs(vectors, threshold=0.93, clusters=40, nprobe=nprobe)
        recall[nprobe] = len(expected & set(zip(found.left.tolist(), found.right.tolist(), strict=True))) / len(expected)
    assert len(expected) > 1500
    assert recall[4] > 0.995 > recall[1]


def test_one_cluster_of_nothing_but_copies_gives_fewer_pairs_than_rows(monkeypatch):
    monkeypatch.setattr(semantic, "TILE", 32)
    found = near_pairs(planted(1, copies=499, noise=0.01), threshold=0.9)
    assert len(found.left) == 499
    assert len(set(groups_of(found, 500))) == 1


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_rows_are_no_trouble(count):
    assert len(near_pairs(planted(1)[:count], threshold=0.9).left) == (count == 2)
    found = semantic_leaders(planted(1)[:count], np.arange(count), threshold=0.9)
    assert found.leader.tolist() == [0, 0][:count]


def test_vectors_survive_arrow():
    vectors = planted(5)
    there = column(vectors)
    assert (matrix(there) == vectors).all()
    assert (matrix(pa.chunked_array([there.slice(1, 2), there.slice(4, 1)])) == vectors[[1, 2, 4]]).all()


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("parts", [1, 4])
def test_edges_over_blocks_and_tasks_join_what_near_pairs_joins(blocks, parts, monkeypatch):
    monkeypatch.setattr(semantic, "EXACT_UP_TO", 1000)
    vectors = planted(3000, noise=0.01)
    nodes = np.random.default_rng(3).integers(1 << 63, size=len(vectors), dtype=np.uint64)
    cut = [(nodes[at], vectors[at]) for at in np.array_split(np.random.default_rng(blocks).permutation(len(nodes)), blocks)]
    cut.append((nodes[:50], vectors[:50]))  # a text of two blocks is not a pair
    given = [SignedBlock(pa.table({"id": node}), node, vector) for node, vector in cut]
    plan, executor = flow.plan(len(nodes), SemanticMatcher(Path("model"), 0.98), [("id", "ascending")], parts=parts), InProcess()
    signatures = flow.compute_signatures(given, plan, executor, compute=lambda block: block)
    [roots] = executor.fetch(flow.join_edges(flow.find_edges(signatures, plan, executor), plan, executor))
    expected = components.roots(np.stack([nodes[0::2], nodes[1::2]]))  # planted: each second one is a copy of the one before
    assert (roots.node.tolist(), roots.root.tolist()) == (expected.node.tolist(), expected.root.tolist())


class Travelling(InProcess):
    """Counts the vectors that wait for the tasks of their clusters."""

    def __init__(self):
        self.sent, self.most = [], 0

    def start(self, op, *args, returns=1):
        refs = super().start(op, *args, returns=returns)
        if op is flow._partition_vectors:
            self.sent += [(weakref.ref(ref), len(ref.result().vectors)) for ref in refs]
            self.most = max(self.most, sum(count for ref, count in self.sent if ref() is not None))
        return refs


@pytest.mark.parametrize("at_once", [1, 3, 16])
def test_vectors_travel_to_a_few_parts_at_a_time(at_once, monkeypatch):
    monkeypatch.setattr(semantic, "EXACT_UP_TO", 100)
    monkeypatch.setattr(semantic, "ROWS_PER_CLUSTER", 20)
    vectors = planted(800, noise=0.02)
    nodes = np.random.default_rng(3).integers(1 << 63, size=len(vectors), dtype=np.uint64)
    given = [SignedBlock(pa.table({"id": nodes[at]}), nodes[at], vectors[at]) for at in np.array_split(np.arange(len(nodes)), 4)]
    plan, executor = flow.plan(len(nodes), SemanticMatcher(Path("model"), 0.98), [("id", "ascending")], parts=8), Travelling()
    plan = plan._replace(parts_at_once=at_once)
    edges = executor.fetch(
        flow.find_edges(flow.compute_signatures(given, plan, executor, compute=lambda block: block), plan, executor)
    )
    assert len(edges) == 8
    assert len(np.unique(np.concatenate(edges, axis=1), axis=1).T) >= 800  # each with its copy
    travelled = sum(count for _, count in executor.sent)
    assert executor.most <= travelled * min(1, 1.5 * at_once / 8)


def greedy(vectors, order, threshold):
    """The rule of `leaders` in plain Python: row -> the nearest row that stayed before it."""
    kept, leader = [], list(range(len(vectors)))
    for row in order:
        near = [other for other in kept if vectors[row] @ vectors[other] >= threshold]
        if near:
            leader[row] = max(near, key=lambda other: vectors[row] @ vectors[other])
        else:
            kept.append(row)
    return leader


@pytest.mark.parametrize("at_once", [16, 1024])
@pytest.mark.parametrize("seed", range(3))
def test_leaders_are_those_of_a_greedy_loop_over_all_rows(seed, at_once, monkeypatch):
    monkeypatch.setattr(leaders, "AT_ONCE", at_once)
    vectors = planted(25, copies=7, noise=0.12, seed=seed)
    order = np.random.default_rng(seed).permutation(200)
    found = semantic_leaders(vectors, order, threshold=0.85)
    expected = greedy(vectors, order.tolist(), 0.85)
    assert found.leader.tolist() == expected
    assert 20 < len(set(expected)) < 190
    assert found.similarity == pytest.approx((vectors * vectors[found.leader]).sum(axis=1), abs=1e-5)


def test_a_chain_of_near_rows_is_one_component_and_has_several_leaders():
    angle = np.radians([0, 20, 40, 60])
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    assert len(set(groups_of(near_pairs(vectors, threshold=0.93), 4))) == 1
    assert semantic_leaders(vectors, np.arange(4), threshold=0.93).leader.tolist() == [0, 0, 2, 2]


def test_leaders_of_many_rows_are_found_in_the_clusters_that_a_row_probes(monkeypatch):
    vectors = planted(1000, copies=2, noise=0.08)
    order = np.random.default_rng(1).permutation(3000)
    exact = semantic_leaders(vectors, order, threshold=0.85)
    monkeypatch.setattr(semantic, "EXACT_UP_TO", 1000)
    monkeypatch.setattr(semantic, "ROWS_PER_CLUSTER", 100)
    found = semantic_leaders(vectors, order, threshold=0.85)
    lost = found.leader != np.arange(3000)
    assert (found.leader[found.leader] == found.leader).all() and found.similarity[lost].min() >= 0.85
    assert lost.sum() > 1000 and (found.leader == exact.leader).mean() > 0.98


def test_a_row_that_is_not_in_the_order_leads_no_other():
    found = semantic_leaders(np.tile(np.float32([[1, 0]]), (3, 1)), np.array([2, 1]), threshold=0.9)
    assert found.leader.tolist() == [0, 2, 2]
