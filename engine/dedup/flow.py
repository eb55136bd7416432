"""Copies in a corpus of any size, on plain Ray tasks: few, large, pure, so that a task that dies is simply run again.

    sign        a block's texts become hashes, signatures and the keys of their bands
    bucket      all keys of some bands, or of a range of them, meet in one task and become candidate edges
    fetch       a block gives the signatures of the texts that have an edge, and no others
    check       an edge counts if its signatures are alike; what a star missed is compared again
    near        by meaning instead: embeddings travel to their clusters, where near ones become edges
    join        edges become components: in one task while they fit, in rounds of stars beyond
    settle      documents meet by component; one stays

The driver holds references, some hundred for each million documents, and counts. No result depends on the order of the documents,
on their blocks, or on which task was run twice.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from ray import ObjectRef

from engine.contract.prompts import Copies
from engine.dedup import components, edges, representatives, semantic
from engine.dedup.components import Roots, part_of
from engine.dedup.minhash import NOTHING, band_keys, bands
from engine.dedup.representatives import Method, Order
from engine.dedup.signature import Matcher, Meaning, Signed
from engine.distributed.task_pool import TaskPool, fetch

KEYS_PER_TASK = 8 << 20  # 16 bytes each while they travel, about 50 while they are sorted
NODES_PER_TASK = 2 << 20  # of which those with an edge bring their signatures
EDGES_IN_ONE_TASK = 50 << 20  # of connected components: about 100 bytes each


class Plan(NamedTuple):
    """How copies are looked for. The numbers change what a task holds, never a result."""

    alike: Matcher  # None: only equal texts
    order: Order  # of the documents of a component, the keeper first; no two are equal
    key_parts: int
    node_parts: int
    edges_in_one_task: int

    @property
    def method(self) -> Method:
        """What joins texts that are not equal."""
        return "semantic" if isinstance(self.alike, Meaning) else "minhash"


class Signatures(NamedTuple):
    """What was signed, block by block, in the object store."""

    rows: list[ObjectRef]  # `id` and the columns of the order
    text: list[ObjectRef]  # of every row
    minima: list[ObjectRef]
    nodes: list[ObjectRef]  # of the rows that have an n-gram: their texts
    keys: list[list[ObjectRef]]  # block -> task


class Settled(NamedTuple):
    """What became of the documents; one of `places` and one of `duplicates` for each part of the components."""

    places: list[ObjectRef]  # keepers.Fates.places
    duplicates: list[ObjectRef]  # keepers.Fates.duplicates, of which the parts follow each other


def plan(rows: int, alike: Matcher, order: Order, *, parts: int | None = None) -> Plan:
    """Return the plan for about `rows` documents; `parts` is for whoever wants more or fewer tasks than they need."""
    count = bands(alike).count if isinstance(alike, Copies) else 1
    key_parts = min(parts, count) if parts else 1 + rows * count // KEYS_PER_TASK
    key_parts = key_parts if key_parts <= count else -(-key_parts // count) * count
    return Plan(alike, order, key_parts, parts or 1 + rows // NODES_PER_TASK, EDGES_IN_ONE_TASK)


def sign(blocks: Sequence[Any], plan: Plan, crew: TaskPool, *, how: Callable[[Any], Signed]) -> Signatures:
    """Sign `blocks`, values or references, each by `how(block)` in a task of its own: all that is ever read of the texts."""
    returns, copies = 4 + plan.key_parts, plan.alike if isinstance(plan.alike, Copies) else None
    signed = [crew.start(_sign, how, block, copies, plan.key_parts, returns=returns) for block in blocks]
    columns = [[block[number] for block in signed] for number in range(4)]
    return Signatures(*columns, keys=[block[4:] for block in signed])


def find(held: Signatures, plan: Plan, crew: TaskPool) -> Settled:
    """Find the copies among the documents of `held`."""
    counted = []
    if isinstance(plan.alike, Copies):
        counted = _edges(held, plan, plan.alike.threshold, crew)
    elif plan.alike:
        counted = _near(held, plan, plan.alike.threshold, crew)
    roots = _join(counted, plan, crew) if plan.alike else []
    parts = range(plan.node_parts)
    told = [
        crew.start(_tell, number, len(parts), rows, text, minima, *roots, returns=len(parts))
        for number, (rows, text, minima) in enumerate(zip(held.rows, held.text, held.minima, strict=True))
    ]
    fates = [crew.start(_settle, plan.order, plan.method, *(block[part] for block in told), returns=2) for part in parts]
    return Settled([places for places, _ in fates], [lost for _, lost in fates])


def _edges(held: Signatures, plan: Plan, threshold: float, crew: TaskPool) -> list[ObjectRef]:
    """Return the edges that count by words, (2, edges) each."""
    parts, blocks = plan.node_parts, len(held.nodes)
    found = [
        crew.start(_bucket, parts, blocks, *held.nodes, *(block[part] for block in held.keys), returns=2 + parts)
        for part in range(plan.key_parts)
    ]
    counted: list[ObjectRef] = []
    for _ in range(edges.ROUNDS):
        needed = [crew.start(_unite, *(one[2 + part] for one in found), returns=2) for part in range(parts)]
        nodes = [one for _, one in needed]
        fetched = [
            crew.start(_fetch, text, minima, *nodes, returns=parts) for text, minima in zip(held.text, held.minima, strict=True)
        ]
        checked = [crew.start(_check, threshold, needed[part][0], *(block[part] for block in fetched))[0] for part in range(parts)]
        counted += checked
        if not sum(fetch([left for left, *_ in found])):
            break
        found = [crew.start(_again, parts, stars, *checked, returns=2 + parts) for _, stars, *_ in found]
    return counted


def _near(held: Signatures, plan: Plan, threshold: float, crew: TaskPool) -> list[ObjectRef]:
    """Return the edges that count by meaning, (2, edges) each. What is compared in four clusters travels four times."""
    parts, blocks = plan.node_parts, list(zip(held.text, held.minima, strict=True))
    rows = sum(fetch([crew.start(_rows, text)[0] for text, _ in blocks]))
    clusters = semantic.clusters_for(rows)
    share = clusters * semantic.SAMPLE_PER_CLUSTER / rows
    drawn = [crew.start(_draw, share, *block)[0] for block in blocks]
    [centres] = crew.start(_centres, clusters, *drawn)
    dealt = [crew.start(_place, parts, centres, *block, returns=parts) for block in blocks]
    return [crew.start(_meet, threshold, *(block[part] for block in dealt))[0] for part in range(parts)]


def _join(counted: list[ObjectRef], plan: Plan, crew: TaskPool) -> list[ObjectRef]:
    """Return the roots of all nodes that have an edge, in parts."""
    sizes = fetch([crew.start(_size, one)[0] for one in counted])
    if sum(sizes) <= plan.edges_in_one_task:
        return crew.start(_roots, *counted)
    parts = range(plan.node_parts)
    dealt = [crew.start(_deal, len(parts), one, returns=len(parts)) for one in counted]
    before, after = None, ()
    while before != after:
        before, digests = after, []
        for step, then in (("large", "small"), ("small", "large")):
            mine = [[one[part] for one in dealt] for part in parts]
            stars = [crew.start(_star, step, then, len(parts), *pieces, returns=1 + len(parts)) for pieces in mine]
            dealt, digests = [made for _, *made in stars], [told for told, *_ in stars]
        after = tuple(map(sum, zip(*fetch(digests), strict=True)))
    return [crew.start(_settled, *(one[part] for one in dealt))[0] for part in parts]


def _sign(how: Callable[[Any], Signed], block: Any, copies: Copies | None, parts: int) -> tuple[Any, ...]:
    rows, text, minima = how(block)
    if not copies:
        return (rows, text, minima, text[:0], *[None] * parts)
    speaks = (minima[:, :4] != NOTHING).any(axis=1)  # a text without an n-gram is like no other; another has no four such minima
    nodes, spoken = (text, minima) if speaks.all() else (text[speaks], minima[speaks])
    return (rows, text, minima, nodes, *edges.deal(band_keys(spoken, bands(copies)), nodes, parts))


def _bucket(parts: int, blocks: int, *given: Any) -> tuple[Any, ...]:
    return _found(edges.meet(given[:blocks], given[blocks:]), parts)


def _again(parts: int, stars: edges.Buckets, *checked: np.ndarray) -> tuple[Any, ...]:
    return _found([edges.unlike(stars, np.concatenate(checked, axis=1))], parts)


def _found(buckets: Sequence[edges.Buckets], parts: int) -> tuple[Any, ...]:
    """Return how many nodes are still in stars, these, and the candidates by part."""
    stars = [edges.large(one) for one in buckets]
    both = edges.Buckets(*(np.concatenate(column) for column in zip(*stars, strict=True)))
    found = edges.distinct(np.concatenate([edges.candidates(one) for one in buckets], axis=1))
    smaller, _ = found
    place = part_of(smaller, parts)
    return (len(both.node), both, *(found[:, place == part] for part in range(parts)))


def _unite(*found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    every = edges.distinct(np.concatenate(found, axis=1))
    return every, np.unique(every)


def _fetch(text: np.ndarray, minima: np.ndarray, *needed: np.ndarray) -> Any:
    pieces = []
    node, row = np.unique(text, return_index=True)
    for nodes in needed:
        wanted = np.isin(node, nodes, assume_unique=True)
        pieces.append((node[wanted], minima[row[wanted]]))
    return pieces if len(pieces) > 1 else pieces[0]


def _check(threshold: float, candidates: np.ndarray, *fetched: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    nodes, minima = (np.concatenate(column) for column in zip(*fetched, strict=True))
    return edges.check(candidates, nodes, minima, threshold=threshold)


def _rows(text: np.ndarray) -> int:
    return len(text)


def _draw(share: float, text: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return semantic.draw(text, vectors, share=share)


def _centres(clusters: int, *drawn: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return semantic.centres_of(drawn, clusters=clusters)


def _place(parts: int, centres: np.ndarray, text: np.ndarray, vectors: np.ndarray) -> Any:
    dealt = semantic.deal(text, vectors, centres, parts)
    return dealt if parts > 1 else dealt[0]


def _meet(threshold: float, *dealt: pa.Table) -> np.ndarray:
    return semantic.meet(dealt, threshold=threshold)


def _size(counted: np.ndarray) -> int:
    return counted.shape[1]


def _roots(*counted: np.ndarray) -> Roots:
    return components.roots(np.concatenate(counted, axis=1))


def _deal(parts: int, counted: np.ndarray) -> Any:
    dealt = components.deal(counted, parts, "large")
    return dealt if parts > 1 else dealt[0]


def _star(step: components.Step, then: components.Step, parts: int, *owned: np.ndarray) -> tuple[Any, ...]:
    made = components.star(np.concatenate(owned, axis=1), step)
    return (components.digest(made), *components.deal(made, parts, then))


def _settled(*owned: np.ndarray) -> Roots:
    return components.settled(np.concatenate(owned, axis=1))


def _tell(number: int, parts: int, rows: pa.Table, text: np.ndarray, minima: np.ndarray, *roots: Roots) -> Any:
    told = representatives.tell(rows, text, roots, number=number)
    place = part_of(told["root"].to_numpy(), parts)
    pieces = []
    for part in range(parts):
        mine = told.filter(pa.array(place == part)) if parts > 1 else told
        alike = minima[np.flatnonzero((place == part) & told["has_minima"].to_numpy())]
        pieces.append((mine, alike))
    return pieces if parts > 1 else pieces[0]


def _settle(order: Order, method: Method, *told: tuple[pa.Table, np.ndarray]) -> tuple[np.ndarray, pa.Table]:
    tables, minima = zip(*told, strict=True)
    fates = representatives.settle(pa.concat_tables(tables), np.concatenate(minima), order, method=method)
    return fates.places, fates.duplicates
