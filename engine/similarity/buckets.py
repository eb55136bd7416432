"""Ids that share a key become pairs. Only (key, kind, id) travels, 8 bytes and the id."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

ALL_PAIRS_UP_TO = 16  # ids in a bucket; a larger one (boilerplate) is a star around its smallest id, or it would cost its square


def keyed(ids: pa.Array, **kinds: np.ndarray | pa.Array) -> pa.Table:
    """Return (key, kind, id): a row for each id and each of its keys, uint64 of shape (ids,) or (ids, keys); null is no key."""
    pieces = []
    for kind, keys in kinds.items():
        if isinstance(keys, np.ndarray) and keys.ndim == 2:
            repeated = pa.array(np.repeat(np.arange(len(ids)), keys.shape[1]))
            table = pa.table({"key": pa.array(keys.ravel()), "id": ids.take(repeated)})
        else:
            table = pa.table({"key": pa.array(keys, pa.uint64()), "id": ids})
        pieces.append(table.append_column("kind", pa.repeat(kind, len(table))).drop_null())
    return pa.concat_tables(pieces).select(["key", "kind", "id"])


def text_key(kind: str, text: str) -> int:
    """Return a 64-bit key of `text` among keys of `kind`."""
    return xxhash.xxh3_64_intdigest(f"{kind}\0{text}".encode("utf-8", "surrogatepass"))


def pairs(keys: pa.Table) -> pa.Table:
    """Return (a, b, kind) from (key, kind, id) in which every bucket is whole; a < b, each pair once a bucket."""
    keys = keys.sort_by([("kind", "ascending"), ("key", "ascending"), ("id", "ascending")])
    kind, key = keys["kind"].to_numpy(), keys["key"].to_numpy()
    new = np.ones(len(keys), bool)
    new[1:] = (kind[1:] != kind[:-1]) | (key[1:] != key[:-1])
    starts = np.flatnonzero(new)
    sizes = np.diff(np.append(starts, len(keys)))
    left: list[int] = []
    right: list[int] = []
    for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        heads = range(start, start + size if size <= ALL_PAIRS_UP_TO else start + 1)
        for a, b in itertools.product(heads, range(start, start + size)):
            if a < b:
                left.append(a)
                right.append(b)
    ids = keys["id"].combine_chunks()
    a, b = pa.array(left, pa.int64()), pa.array(right, pa.int64())
    found = pa.table({"a": ids.take(a), "b": ids.take(b), "kind": keys["kind"].combine_chunks().take(a)})
    return found.filter(pc.not_equal(found["a"], found["b"]))
