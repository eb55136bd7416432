"""The engine of copies without Ray: the same pieces in one process, for tests of what is built on it."""

from typing import Any

import numpy as np
import pyarrow as pa

from engine.contract.prompts import Copies
from engine.dedup import components, edges, representatives
from engine.dedup.minhash import band_keys, bands
from engine.dedup.signature import Signed
from engine.prompts import copies as prompts


def counted(nodes: np.ndarray, minima: np.ndarray, *, threshold: float, keys: np.ndarray, parts: int = 1, blocks: int = 1) -> Any:
    """Return the edges that count among `nodes` with `keys` (nodes, bands), the work cut into parts and blocks."""
    places = np.array_split(np.arange(len(nodes)), blocks)
    pieces = [edges.deal(keys[at], nodes[at], parts) for at in places]
    whose = [nodes[at] for at in places]
    found = [bucket for part in range(parts) for bucket in edges.meet(whose, [block[part] for block in pieces])]
    passed = []
    for _ in range(edges.ROUNDS):
        wanted = edges.distinct(np.concatenate([edges.candidates(one) for one in found], axis=1))
        passed.append(edges.check(wanted, nodes, minima, threshold=threshold))
        found = [edges.unlike(edges.large(one), passed[-1]) for one in found]
    return edges.distinct(np.concatenate(passed, axis=1))


def duplicates(signed: Signed, copies: Copies | None, order: representatives.Order) -> pa.Table:
    """Return what does not stay of `signed`, as the flow finds it."""
    roots = []
    if copies and len(signed.text):
        keys = band_keys(signed.minima, bands(copies))
        roots = [components.roots(counted(signed.text, signed.minima, threshold=copies.threshold, keys=keys))]
    told = representatives.tell(signed.rows, signed.text, roots, number=0)
    return representatives.settle(told, signed.minima[told["has_minima"].to_numpy()], order, method="minhash").duplicates


def dispositions(signed: pa.Table, copies: Copies) -> pa.Table:
    """Return DISPOSITIONS of SIGNED, as the flow of prompts finds them."""
    repeated = [duplicates(prompts.by_source_id(signed), None, [("id", "ascending")])]
    last = max(signed["round"].to_pylist())
    among = [prompts.by_text(signed, repeated, last=number, num_perm=copies.num_perm) for number in range(last + 1)]
    return prompts.resolve(repeated, [[duplicates(one, copies, prompts.BEST_FIRST)] for one in among])
