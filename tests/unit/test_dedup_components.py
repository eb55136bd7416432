"""Components in one process and in rounds of stars are equal, and are those of a plain union-find."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.dedup import components


def by_stars(edges, parts):
    """The rounds as the flow runs them, without Ray."""
    owned = components.partition(edges, parts, "large_star")
    before, after = None, ()
    while before != after:
        before = after
        for step, then in (("large_star", "small_star"), ("small_star", "large_star")):
            made = [components.apply_star(step, piece) for piece in owned]
            owned = [
                np.concatenate(pieces, axis=1)
                for pieces in zip(*(components.partition(piece, parts, then) for piece in made), strict=True)
            ]
        after = tuple(map(sum, zip(*(components.digest(piece) for piece in made), strict=True)))
    found = [components.final_roots(piece) for piece in owned]
    return components.Roots(*(np.concatenate(column) for column in zip(*found, strict=True)))


def by_union(pairs):
    group = {}
    for a, b in pairs:
        joint = group.get(a, {a}) | group.get(b, {b})
        group.update(dict.fromkeys(joint, joint))
    return {node: min(joint) for node, joint in group.items()}


def wide(pairs):
    """Edges between nodes that are spread over all 64 bits, in an order that is not that of the numbers."""
    numbers = np.array(pairs, np.uint64).reshape(-1, 2).T * np.uint64(0x9E3779B97F4A7C15)
    return np.sort(numbers, axis=0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)).filter(lambda pair: pair[0] != pair[1]), max_size=40),
    st.integers(1, 4),
)
def test_both_ways_give_every_node_the_smallest_of_its_component(pairs, parts):
    edges = wide(pairs)
    one, many = components.roots(edges), by_stars(edges, parts)
    assert [column.tolist() for column in one] == [column.tolist() for column in many]
    assert dict(zip(*(column.tolist() for column in one), strict=True)) == by_union(edges.T.tolist())


@pytest.mark.parametrize("parts", [1, 3])
def test_a_long_chain_is_one_component_both_ways(parts):
    edges = wide([(n, n + 1) for n in range(1, 500)])
    found = by_stars(edges, parts)
    assert set(found.root.tolist()) == {edges.min()} and len(found.node) == 500
    assert components.roots(edges).root.tolist() == found.root.tolist()
