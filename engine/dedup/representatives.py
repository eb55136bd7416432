"""Which document of a component stays, by a declared order, and what the others lost to."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from engine.dedup.components import Roots
from engine.dedup.minhash import estimate
from engine.dedup.vectors import cosine

Method = Literal["minhash", "semantic"]
MEASURES = {"minhash": estimate, "semantic": cosine}
Direction = Literal["ascending", "descending"]
Order = Sequence[tuple[str, Direction]]


DUPLICATE = ("id", "rep", "similarity", "method")


class Fates(NamedTuple):
    """Of the documents that do not stay."""

    places: np.ndarray  # positions, sorted
    duplicates: pa.Table  # DUPLICATE and batch, of the listed ones; by component, the best first


def tell(rows: pa.Table, text: np.ndarray, roots: Sequence[Roots], *, number: int) -> pa.Table:
    """Return what decides on the documents of block `number`: `rows`, and beside their `text` more columns.

    `root` is the smallest text that theirs is joined to, `position` is number << 32 | row, and `has_minima` says whether they are
    joined to other texts at all.
    """
    root, is_joined = text.copy(), np.zeros(len(text), bool)
    for part in (one for one in roots if len(one.node)):
        at = np.minimum(np.searchsorted(part.node, text), len(part.node) - 1)
        known = part.node[at] == text
        root[known], is_joined[known] = part.root[at[known]], True
    position = (np.uint64(number) << np.uint64(32)) + np.arange(len(text), dtype=np.uint64)
    for name, column in (("text", text), ("root", root), ("position", position), ("has_minima", is_joined)):
        rows = rows.append_column(name, pa.array(column))
    return rows


def settle(rows: pa.Table, minima: np.ndarray, order: Order, *, method: Method) -> Fates:
    """Return what does not stay of `rows`, as `tell` tells them, which hold all documents of their components.

    Beside the columns of `order` they have `batch`, and `listed`: whether a document is to be told of if it does not stay.

    The keeper of a component is its first document by `order`, in which no two documents are equal. `minima` are the signatures of
    the rows in which `has_minima` is true, in their order.
    """
    at = np.cumsum(rows["has_minima"].to_numpy()) - 1
    rows = rows.append_column("at", pa.array(at)).drop_columns(["has_minima"])
    rows = _joined(rows).sort_by([("root", "ascending"), *order])
    root, text, at = (rows[name].to_numpy() for name in ("root", "text", "at"))
    new = np.ones(len(root), bool)
    new[1:] = root[1:] != root[:-1]
    keeper = np.maximum.accumulate(np.where(new, np.arange(len(root)), 0))
    lost = np.flatnonzero(~new)
    to = keeper[lost]
    similarity = np.ones(len(lost), np.float32)
    far = text[lost] != text[to]
    if far.any():
        similarity[far] = MEASURES[method](minima[at[lost[far]]], minima[at[to[far]]])
    found = rows.take(pa.array(lost))
    duplicates = pa.table(
        {
            "id": found["id"],
            "rep": rows["id"].take(pa.array(to)),
            "similarity": pa.array(similarity),
            "method": pa.array(np.where(far, method, "exact").tolist(), pa.string()),
            "batch": found["batch"],
        }
    )
    return Fates(np.sort(found["position"].to_numpy()), duplicates.filter(found["listed"]))


def _joined(rows: pa.Table) -> pa.Table:
    """Leave out the documents that are alone in their component: most, and sorting is what costs."""
    root = rows["root"].to_numpy()
    order = np.argsort(root)
    twin = root[order][1:] == root[order][:-1]
    keep = np.zeros(len(root), bool)
    keep[order[1:]] |= twin
    keep[order[:-1]] |= twin
    return rows.filter(pa.array(keep))


def hashed(rows: pa.Table) -> np.ndarray:
    """Return 64-bit hashes of the ids of `rows`: of whole numbers one to one, of anything else of its text."""
    ids = rows["id"]
    if pa.types.is_integer(ids.type):
        return pc.cast(ids, pa.int64(), safe=False).to_numpy().view(np.uint64)
    texts = pc.cast(ids, pa.string()).cast(pa.binary()).to_pylist()
    return np.fromiter((xxhash.xxh3_64_intdigest(one) for one in texts), np.uint64, len(texts))


def repeated(*hashes: np.ndarray) -> int | None:
    """Return a hash that occurs more than once, the smallest."""
    every = np.sort(np.concatenate(hashes))
    twice = every[1:][every[1:] == every[:-1]]
    return int(twice[0]) if len(twice) else None
