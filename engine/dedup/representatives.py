"""Which document of a component stays, by a declared order, and which ones the others lose to."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from engine.dedup.components import Roots
from engine.dedup.edges import repeats
from engine.dedup.leaders import groups, leaders
from engine.dedup.minhash import estimate
from engine.dedup.signature import Matcher, SemanticMatcher
from engine.dedup.vectors import cosine

Direction = Literal["ascending", "descending"]
Order = Sequence[tuple[str, Direction]]
Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]  # numbers of rows, and of others: their similarities

DUPLICATE = ("id", "duplicate_of", "similarity", "method")


class Duplicates(NamedTuple):
    """The documents that do not stay."""

    positions: np.ndarray  # sorted, uint64
    table: pa.Table  # DUPLICATE and batch, of the listed ones; by component, the best first


def label_components(rows: pa.Table, text_keys: np.ndarray, roots: Sequence[Roots], *, number: int) -> pa.Table:
    """Return the `rows` of block `number` with `text`, `root`, `position` and `has_signature`.

    `root` is the smallest text key of the component, `position` is number << 32 | row, and `has_signature` is true if the component
    joins several texts, so that their signatures are needed.
    """
    root, is_joined = text_keys.copy(), np.zeros(len(text_keys), bool)
    for part in (part for part in roots if len(part.node)):
        at = np.minimum(np.searchsorted(part.node, text_keys), len(part.node) - 1)
        has_edge = part.node[at] == text_keys
        root[has_edge], is_joined[has_edge] = part.root[at[has_edge]], True
    position = (np.uint64(number) << np.uint64(32)) + np.arange(len(text_keys), dtype=np.uint64)
    for name, column in (("text", text_keys), ("root", root), ("position", position), ("has_signature", is_joined)):
        rows = rows.append_column(name, pa.array(column))
    return rows


def resolve(rows: pa.Table, signatures: np.ndarray, order: Order, matcher: Matcher) -> Duplicates:
    """Return the duplicates among `rows`, as `label_components` returns them; of each component all documents are given.

    Of a component of MinHash or of equal texts the first document by `order`, in which no two documents are equal, stays and the
    others lose to it. Of a component of embeddings several may stay: see `leaders`. Besides the columns of `order`, `rows` have
    `batch`, and `listed`: whether a document is in the table if it is a duplicate. `signatures` are those of the rows in which
    `has_signature` is true, in their order.
    """
    at = np.cumsum(rows["has_signature"].to_numpy()) - 1
    rows = _in_components(rows.append_column("at", pa.array(at)).drop_columns(["has_signature"]))
    measure = cosine if isinstance(matcher, SemanticMatcher) else estimate
    return choose(rows, order, matcher, signatures, lambda left, right: measure(signatures[left], signatures[right]))


def choose(rows: pa.Table, order: Order, matcher: Matcher, signatures: np.ndarray, similarity_of: Similarity) -> Duplicates:
    """Return the duplicates among `rows` that share their component with another row, with the columns of `resolve` and `at`.

    `similarity_of` gets `at` of rows and of those that they lose to; `signatures` (by `at`) are needed for embeddings only.
    """
    rows = rows.sort_by([("root", "ascending"), *order])
    root, text, at = (rows[name].to_numpy() for name in ("root", "text", "at"))
    is_first = np.diff(root, prepend=~root[:1]) != 0
    keeper = np.maximum.accumulate(np.where(is_first, np.arange(len(root)), 0))
    if isinstance(matcher, SemanticMatcher):
        _lead(keeper, text, at, signatures, threshold=matcher.threshold)
    lost = np.flatnonzero(keeper != np.arange(len(root)))
    to = keeper[lost]
    similarity = np.ones(len(lost), np.float32)
    differs = text[lost] != text[to]
    method = "semantic" if isinstance(matcher, SemanticMatcher) else "minhash"
    if differs.any():
        similarity[differs] = similarity_of(at[lost[differs]], at[to[differs]])
    dropped = rows.take(pa.array(lost))
    columns = {
        "id": dropped["id"],
        "duplicate_of": rows["id"].take(pa.array(to)),
        "similarity": pa.array(similarity),
        "method": pc.if_else(pa.array(differs), method, "exact"),
        "batch": dropped["batch"],
    }
    return Duplicates(np.sort(dropped["position"].to_numpy()), pa.table(columns).filter(dropped["listed"]))


def _lead(keeper: np.ndarray, text: np.ndarray, at: np.ndarray, vectors: np.ndarray, *, threshold: float) -> None:
    """Replace, in components of several texts, each row's `keeper`, the component's first row, by the row that it loses to."""
    for rows in groups(keeper):
        keys, first, which = np.unique(text[rows], return_index=True, return_inverse=True)
        if len(keys) == 1:
            continue
        ranked = np.argsort(first)  # equal texts are one row: their first
        winners = leaders(vectors[at[rows[first[ranked]]]], threshold=threshold)
        rank = np.empty(len(keys), np.int64)
        rank[ranked] = np.arange(len(keys))
        keeper[rows] = rows[first[ranked]][winners.leader[rank[which]]]


def _in_components(rows: pa.Table) -> pa.Table:
    """Return the documents that share their component with another: few, and sorting is the cost."""
    root = rows["root"].to_numpy()
    order, is_shared = np.argsort(root), np.empty(len(root), bool)
    is_shared[order] = repeats(root[order])
    return rows.filter(pa.array(is_shared))


def id_hashes(rows: pa.Table) -> np.ndarray:
    """Return 64-bit hashes of the ids of `rows`: of integers the number itself, of other types a hash of the text."""
    ids = rows["id"]
    if pa.types.is_integer(ids.type):
        return pc.cast(ids, pa.int64(), safe=False).to_numpy().view(np.uint64)
    texts = pc.cast(ids, pa.string()).cast(pa.binary()).to_pylist()
    return np.fromiter((xxhash.xxh3_64_intdigest(text) for text in texts), np.uint64, len(texts))


def repeated_hash(*hashes: np.ndarray) -> int | None:
    """Return the smallest hash that occurs more than once, or None."""
    every = np.sort(np.concatenate(hashes))
    twice = every[1:][every[1:] == every[:-1]]
    return int(twice[0]) if len(twice) else None
