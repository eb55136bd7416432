"""Duplicates found in the memory of one process are those that tasks find, whatever the rows, blocks, threads and parts."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import InProcess, itself

from engine.contract.prompts import Copies
from engine.dedup import flow
from engine.dedup.minhash import NOTHING
from engine.dedup.representatives import Order
from engine.dedup.signature import Matcher, SignedBlock
from engine.distributed.executor import Executor
from engine.distributed.thread_pool import ThreadPool

ORDER: Order = [("batch", "ascending"), ("id", "ascending")]


def corpus(seed: int, rows: int, *, families: int, noise: float) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """Return rows, text keys and signatures: noisy members of families, equal texts, and texts without an n-gram."""
    rng = np.random.default_rng(seed)
    minima = rng.integers(0, 6, (families, 16), dtype=np.uint32)[rng.integers(0, families, rows)]
    flips = rng.random(minima.shape) < noise
    flips[:, :2] &= rng.random() < 0.5  # else the first band is one large bucket of a family
    minima[flips] = rng.integers(0, 6, int(flips.sum()))
    minima[rng.random(rows) < 0.02] = NOTHING
    keys = rng.integers(0, 2**64, rows, dtype=np.uint64)
    keys[rng.integers(0, rows, rows // 5)] = keys[rng.integers(0, rows, rows // 5)]
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    table = pa.table(
        {"id": rng.permutation(rows), "batch": pa.array(rng.integers(0, 2, rows), pa.int32()), "listed": rng.random(rows) < 0.9}
    )
    return table, keys, minima[first][which]


def found(blocks: list[SignedBlock], matcher: Matcher, parts: int | None, executor: Executor) -> tuple[list[int], pa.Table]:
    order = flow.plan(sum(len(block.text_keys) for block in blocks), matcher, ORDER, parts=parts)
    refs = flow.find_duplicates(flow.compute_signatures(blocks, order, executor, compute=itself), order, executor)
    positions = np.sort(np.concatenate(executor.fetch(refs.positions)))
    return positions.tolist(), pa.concat_tables(executor.fetch(refs.duplicates))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 700),
    st.sampled_from([1, 3, 40]),
    st.sampled_from([0.02, 0.15]),
    st.sampled_from([(4, 2), (2, 1), (8, 1), None]),
    st.sampled_from([0.3, 0.5, 0.75]),
    st.integers(1, 4),
)
def test_threads_find_what_tasks_find(seed, rows, families, noise, cut, threshold, blocks):
    table, keys, minima = corpus(seed, rows, families=families, noise=noise)
    matcher = Copies(threshold=threshold, num_perm=16, bands=cut[0], rows=cut[1]) if cut else None
    cuts = [at for at in np.array_split(np.random.default_rng(seed).permutation(rows), blocks) if len(at)]
    signed = [SignedBlock(table.take(pa.array(at)), keys[at], minima[at]) for at in cuts]
    positions, duplicates = found(signed, matcher, None, InProcess())
    for parts, threads in ((None, 1), (3, 2)):
        with ThreadPool(threads) as pool:
            its_positions, its_duplicates = found(signed, matcher, parts, pool)
        assert its_positions == positions and its_duplicates.equals(duplicates)


def test_threads_that_share_the_bands_find_the_same(monkeypatch):
    table, keys, minima = corpus(5, 4_000, families=300, noise=0.15)
    matcher, blocks = Copies(threshold=0.5, num_perm=16, bands=8, rows=2), [SignedBlock(table, keys, minima)]
    positions, duplicates = found(blocks, matcher, None, InProcess())
    monkeypatch.setattr("engine.dedup.in_memory.WORTH_A_TASK", 100)
    for threads in (2, 3, 16):
        with ThreadPool(threads) as pool:
            its_positions, its_duplicates = found(blocks, matcher, None, pool)
        assert its_positions == positions and its_duplicates.equals(duplicates)
    assert 100 < len(positions) < 3_900


def test_different_texts_whose_keys_begin_alike_are_not_equal():
    keys = (np.uint64(7) << np.uint64(40)) + np.array([1, 2, 1, 3, 2], np.uint64)  # the sorted numbers keep the upper bits only
    table = pa.table({"id": range(5), "batch": pa.array([0] * 5, pa.int32()), "listed": [True] * 5})
    with ThreadPool(1) as pool:
        positions, duplicates = found([SignedBlock(table, keys, np.empty((5, 0), np.uint32))], None, None, pool)
    assert positions == [2, 4] and duplicates.select(["id", "duplicate_of"]).to_pylist() == [
        {"id": 2, "duplicate_of": 0}, {"id": 4, "duplicate_of": 1},
    ]  # fmt: skip


@pytest.mark.parametrize("matcher", [None, Copies()])
def test_blocks_without_a_row_are_fine(matcher):
    none = SignedBlock(
        pa.table({"id": pa.array([], pa.int64()), "batch": pa.array([], pa.int32()), "listed": pa.array([], pa.bool_())}),
        np.empty(0, np.uint64),
        np.empty((0, Copies().num_perm), np.uint32),
    )
    with ThreadPool(1) as pool:
        positions, duplicates = found([none, none], matcher, None, pool)
    assert positions == [] and len(duplicates) == 0
