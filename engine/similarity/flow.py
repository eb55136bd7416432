"""Copies in a corpus of any size, on plain Ray tasks: few, large, pure, so that a task that dies is simply run again.

    sign        a block's texts become hashes, signatures and the keys of their bands
    bucket      all keys of some bands, or of a range of them, meet in one task and become candidate edges
    fetch       a block gives the signatures of the texts that have an edge, and no others
    check       an edge counts if its signatures are alike; what a star missed is compared again
    join        edges become components: in one task while they fit, in rounds of stars beyond
    settle      documents meet by component; one stays

The driver holds references, some hundred for each million documents, and counts. No result depends on the order of the documents,
on their blocks, or on which task was run twice.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
from ray import ObjectRef
from ray.data import Dataset
from ray.exceptions import RayTaskError

from engine.contract.profile import Pool
from engine.contract.prompts import Copies
from engine.fleet import stream
from engine.similarity import edges, joined, keepers
from engine.similarity.buckets import pairs
from engine.similarity.joined import Roots, part_of
from engine.similarity.keepers import Order
from engine.similarity.minhash import NOTHING, band_keys, bands
from engine.similarity.sign import Signed

KEYS_PER_TASK = 8 << 20  # 16 bytes each while they travel, about 50 while they are sorted
NODES_PER_TASK = 2 << 20  # of which those with an edge bring their signatures
EDGES_IN_ONE_TASK = 50 << 20  # of connected components: about 100 bytes each


class Plan(NamedTuple):
    """How copies are looked for. The numbers change what a task holds, never a result."""

    copies: Copies | None  # None: only equal texts
    order: Order  # of the documents of a component, the keeper first; no two are equal
    method: str = "minhash"  # what joins texts that are not equal
    key_parts: int = 1
    node_parts: int = 1
    edges_in_one_task: int = 0
    cpus: float = 1  # of a task


class Held(NamedTuple):
    """What was signed, block by block, in the object store."""

    rows: list[ObjectRef]  # `id` and the columns of the order
    text: list[ObjectRef]  # of every row
    minima: list[ObjectRef]
    ids: list[ObjectRef]  # hashes
    nodes: list[ObjectRef]  # of the rows that have an n-gram: their texts
    keys: list[list[ObjectRef]]  # block -> task


class Settled(NamedTuple):
    """What became of the documents; one of `places` and one of `duplicates` for each part of the components."""

    places: list[ObjectRef]  # keepers.Fates.places
    duplicates: list[ObjectRef]  # keepers.Fates.duplicates, of which the parts follow each other
    repeated: ObjectRef  # hash of an id that two documents have, or None


def plan(rows: int, copies: Copies | None, order: Order, **more: Any) -> Plan:
    """Return the plan for about `rows` documents."""
    count = bands(copies).count if copies else 1
    parts = 1 + rows * count // KEYS_PER_TASK
    parts = parts if parts <= count else -(-parts // count) * count
    given = {"key_parts": parts, "node_parts": 1 + rows // NODES_PER_TASK, "edges_in_one_task": EDGES_IN_ONE_TASK}
    return Plan(copies, order, **given | more)


def find(held: Held, plan: Plan) -> Settled:
    """Find the copies among the documents of `held`."""
    roots = _join(_edges(held, plan), plan) if plan.copies else []
    parts = range(plan.node_parts)
    told = [
        starting(_tell, plan, returns=len(parts))(number, len(parts), rows, text, minima, *roots)
        for number, (rows, text, minima) in enumerate(zip(held.rows, held.text, held.minima, strict=True))
    ]
    fates = [starting(_settle, plan, returns=2)(plan.order, plan.method, *(block[part] for block in told)) for part in parts]
    repeated = starting(_repeated, plan)(*held.ids)[0]
    return Settled([places for places, _ in fates], [lost for _, lost in fates], repeated)


def sign(blocks: Sequence[Any], plan: Plan, *, how: Callable[[Any], Signed]) -> Held:
    """Sign `blocks`, values or references, each by `how(block)` in a task of its own: all that is ever read of the texts."""
    signed = [starting(_sign, plan, returns=5 + plan.key_parts)(how, block, plan) for block in blocks]
    columns = [[block[number] for block in signed] for number in range(5)]
    return Held(*columns, keys=[block[5:] for block in signed])


def fetch(refs: Any) -> Any:
    """Return what `refs` refer to.

    Raises:
        Exception: what the task raised, as it raised it.
    """
    try:
        return ray.get(refs)
    except RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else error) from None


def _edges(held: Held, plan: Plan) -> list[ObjectRef]:
    """Return the edges that count, (2, edges) each."""
    assert plan.copies
    key_parts, parts = range(plan.key_parts), plan.node_parts
    found = [
        starting(_bucket, plan, returns=2 + parts)(parts, len(held.nodes), *held.nodes, *(block[part] for block in held.keys))
        for part in key_parts
    ]
    counted: list[ObjectRef] = []
    for _ in range(edges.ROUNDS):
        needed = [starting(_unite, plan, returns=2)(*(one[2 + part] for one in found)) for part in range(parts)]
        nodes = [one for _, one in needed]
        fetched = [
            starting(_fetch, plan, returns=parts)(text, minima, *nodes) for text, minima in zip(held.text, held.minima, strict=True)
        ]
        checked = [
            starting(_check, plan)(plan.copies.threshold, needed[part][0], *(block[part] for block in fetched))[0]
            for part in range(parts)
        ]
        counted += checked
        if not sum(fetch([left for left, *_ in found])):
            break
        found = [starting(_again, plan, returns=2 + parts)(parts, stars, *checked) for _, stars, *_ in found]
    return counted


def _join(counted: list[ObjectRef], plan: Plan) -> list[ObjectRef]:
    """Return the roots of all nodes that have an edge, in parts."""
    sizes = fetch([starting(_size, plan)(one)[0] for one in counted])
    if sum(sizes) <= plan.edges_in_one_task:
        return starting(_roots, plan)(*counted)
    parts = plan.node_parts
    dealt = [starting(_deal, plan, returns=parts)(parts, one) for one in counted]
    before, after = None, ()
    while before != after:
        before = after
        for step, then in (("large", "small"), ("small", "large")):
            stars = [
                starting(_star, plan, returns=1 + parts)(step, then, parts, *(one[part] for one in dealt)) for part in range(parts)
            ]
            dealt = [made for _, *made in stars]
        digests = fetch([told for told, *_ in stars])
        after = tuple(map(sum, zip(*digests, strict=True)))
    return [starting(_settled, plan)(*(one[part] for one in dealt))[0] for part in range(parts)]


def starting(op: Callable[..., Any], plan: Plan, *, returns: int = 1) -> Callable[..., list[ObjectRef]]:
    """Return what starts a task of `op`, which returns `returns` values."""
    remote: Any = ray.remote(op).options(num_cpus=plan.cpus, num_returns=returns)

    def start(*given: Any) -> list[ObjectRef]:
        refs = remote.remote(*given)
        return refs if returns > 1 else [refs]

    return start


def _sign(how: Callable[[Any], Signed], block: Any, plan: Plan) -> tuple[Any, ...]:
    rows, text, minima = how(block)
    ids = keepers.hashed(rows["id"])
    if not plan.copies:
        return (rows, text, minima, ids, text[:0], *[None] * plan.key_parts)
    speaks = (minima != NOTHING).any(axis=1)  # a text without an n-gram is like no other
    nodes, keys = text[speaks], band_keys(minima[speaks], bands(plan.copies))
    return (rows, text, minima, ids, nodes, *edges.deal(keys, nodes, plan.key_parts))


def _bucket(parts: int, blocks: int, *given: Any) -> tuple[Any, ...]:
    return _found(edges.meet(given[:blocks], given[blocks:]), parts)


def _again(parts: int, stars: edges.Buckets, *checked: np.ndarray) -> tuple[Any, ...]:
    return _found([edges.unlike(stars, np.concatenate(checked, axis=1))], parts)


def _found(buckets: Sequence[edges.Buckets], parts: int) -> tuple[Any, ...]:
    """Return how many nodes are still in stars, these, and the candidates by part."""
    stars = [edges.large(one) for one in buckets]
    both = edges.Buckets(*(np.concatenate(column) for column in zip(*stars, strict=True)))
    found = edges.distinct(np.concatenate([edges.candidates(one) for one in buckets], axis=1))
    place = part_of(found[0], parts)
    return (len(both.node), both, *(found[:, place == part] for part in range(parts)))


def _unite(*found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    every = edges.distinct(np.concatenate(found, axis=1)) if len(found) > 1 else found[0]
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


def _size(counted: np.ndarray) -> int:
    return counted.shape[1]


def _roots(*counted: np.ndarray) -> Roots:
    return joined.roots(np.concatenate(counted, axis=1))


def _deal(parts: int, counted: np.ndarray) -> Any:
    dealt = joined.deal(counted, parts, "large")
    return dealt if parts > 1 else dealt[0]


def _star(step: joined.Step, then: joined.Step, parts: int, *owned: np.ndarray) -> tuple[Any, ...]:
    made = joined.star(np.concatenate(owned, axis=1), step)
    return (joined.digest(made), *joined.deal(made, parts, then))


def _settled(*owned: np.ndarray) -> Roots:
    return joined.settled(np.concatenate(owned, axis=1))


def _tell(number: int, parts: int, rows: pa.Table, text: np.ndarray, minima: np.ndarray, *roots: Roots) -> Any:
    told = keepers.tell(rows, text, roots, number=number)
    place = part_of(told["root"].to_numpy(), parts)
    pieces = []
    for part in range(parts):
        mine = told.filter(pa.array(place == part)) if parts > 1 else told
        alike = minima[np.flatnonzero((place == part) & told["has_minima"].to_numpy())]
        pieces.append((mine, alike))
    return pieces if parts > 1 else pieces[0]


def _settle(order: Order, method: str, *told: tuple[pa.Table, np.ndarray]) -> tuple[np.ndarray, pa.Table]:
    tables, minima = zip(*told, strict=True)
    return tuple(keepers.settle(pa.concat_tables(tables), np.concatenate(minima), order, method=method))


def _repeated(*ids: np.ndarray) -> int | None:
    return keepers.repeated(ids)


ROWS_PER_PARTITION = 1_000_000  # of (key, kind, id), some 50 MB


def pair_up(keys: Dataset, pool: Pool, *, rows: int, partitions: int | None = None) -> Dataset:
    """(key, kind, id) in, (a, b, kind) out; `rows` is about how many keys there are. More partitions change no result."""
    count = partitions or max(1, rows // ROWS_PER_PARTITION)
    return stream.apply(keys.repartition(count, keys=["key"]), pairs, pool)
