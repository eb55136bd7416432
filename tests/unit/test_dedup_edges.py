"""From signatures to verified edges, through the flow, against brute force; boilerplate stays linear."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import InProcess

from engine.contract.prompts import Copies
from engine.dedup import edges, flow
from engine.dedup.components import roots
from engine.dedup.minhash import Bands, band_keys, estimate
from engine.dedup.signature import SignedBlock

CUT = Bands(4, 2)


def hashes(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def verified(nodes, minima, *, threshold, cut=CUT, parts=1, blocks=1):
    """Return the edges that the flow finds among `nodes`, with the work cut into parts and blocks."""
    copies = Copies(threshold=threshold, num_perm=minima.shape[1], bands=cut.bands, rows=cut.rows)
    rows = pa.table({"id": nodes})
    cuts = np.array_split(np.arange(len(nodes)), blocks)
    given, executor = [SignedBlock(rows.take(at), nodes[at], minima[at]) for at in cuts], InProcess()
    plan = flow.plan(len(nodes), copies, [("id", "ascending")], parts=parts)._replace(key_parts=parts)
    found = flow.find_edges(flow.compute_signatures(given, plan, executor, compute=lambda block: block), plan, executor)
    return edges.distinct(np.concatenate(executor.fetch(found), axis=1))


def by_brute_force(nodes, minima, *, threshold, cut=CUT):
    keys = band_keys(minima, cut)
    left, right = np.triu_indices(len(nodes), 1)
    shared = (keys[left] == keys[right]).any(axis=1) & (estimate(minima[left], minima[right]) >= threshold)
    return edges.distinct(np.sort(np.stack([nodes[left[shared]], nodes[right[shared]]]), axis=0))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=8, max_size=8), min_size=2, max_size=edges.ALL_PAIRS_UP_TO),
    st.sampled_from([0.3, 0.5, 0.75]),
    st.sampled_from([1, 3, 4, 8]),
    st.integers(1, 3),
)
def test_verified_edges_are_those_of_brute_force_however_the_work_is_cut(rows, threshold, parts, blocks):
    minima, nodes = np.array(rows, np.uint32), hashes(len(rows))
    expected = by_brute_force(nodes, minima, threshold=threshold)
    assert verified(nodes, minima, threshold=threshold, parts=parts, blocks=blocks).tolist() == expected.tolist()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(17, 60), st.sampled_from([0.5, 0.75]))
def test_large_buckets_join_only_similar_texts_and_miss_no_neighbour_of_a_centre(seed, count, threshold):
    rng = np.random.default_rng(seed)
    families = rng.integers(0, 1000, (3, 8), dtype=np.uint32)
    minima = families[rng.integers(0, 3, count)]
    flips = rng.random((count, 6)) < 0.15
    minima[:, 2:][flips] = rng.integers(0, 1000, int(flips.sum()))
    minima[:, :2] = 7  # the first band is one bucket of all
    nodes = hashes(count, seed)
    found = verified(nodes, minima, threshold=threshold)
    allowed = set(zip(*by_brute_force(nodes, minima, threshold=threshold).tolist(), strict=True))
    assert set(zip(*found.tolist(), strict=True)) <= allowed
    centre = nodes.min()
    assert {pair for pair in allowed if centre in pair} <= set(zip(*found.tolist(), strict=True))


def test_families_that_share_one_boilerplate_bucket_are_each_found():
    families = np.arange(24, dtype=np.uint32).reshape(3, 8)
    families[:, :2] = 7
    which = np.arange(90) % 3
    nodes = hashes(90)
    found = roots(verified(nodes, families[which], threshold=0.9, cut=Bands(1, 2)))
    assert len(found.node) == 90
    assert all(len(set(found.root[np.isin(found.node, nodes[which == one])].tolist())) == 1 for one in range(3))
    assert len(set(found.root.tolist())) == 3


def test_a_giant_bucket_costs_an_edge_a_node():
    nodes = hashes(5000)
    (bucket,) = edges.join([nodes], [edges.KeyPart(np.ones((1, 5000), np.uint64), None)])
    found = edges.candidates(bucket)
    assert found.shape == (2, 4999) and set(found[0].tolist()) == {nodes.min()}


def test_a_node_that_several_blocks_have_is_in_a_bucket_once():
    one, other = (np.uint64(1) << np.uint64(shift) for shift in (62, 61))
    blocks = [np.array([5, 7], np.uint64), np.array([5], np.uint64), np.array([9], np.uint64)]
    keys = [np.array([[one, other]]), np.array([[one]]), np.array([[one]])]
    [found] = edges.join(blocks, [edges.KeyPart(mine, None) for mine in keys])
    assert (found.key.tolist(), found.node.tolist()) == ([one, one], [5, 9])
    [single] = edges.join(blocks[:2], [edges.KeyPart(mine, None) for mine in keys[:2]])
    assert single.key.tolist() == []


def test_no_nodes_give_no_edges():
    none = np.empty(0, np.uint64)
    empty = edges.buckets(none, none)
    assert edges.candidates(empty).shape == (2, 0) == edges.distinct(np.empty((2, 0), np.uint64)).shape
    assert len(edges.unmatched(edges.large_buckets(empty), np.empty((2, 0), np.uint64)).key) == 0
