"""Picking in ranges of the order: the picks are those of one task that sees all rows, for any shards and ranges."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from in_process import InProcess

from engine.contract.curation import Pick
from engine.curation import decide, pick_flow
from engine.curation.select import select

VALUES = {"layer": ("core", "long_tail", ""), "difficulty": ("easy", "hard")}


def pickable(count: int, rng: np.random.Generator, *, alike: bool) -> pa.Table:
    """Rows as `decide.pickable` gives them. Where they are `alike`, many have equal keys, and one scenario has most of them."""
    scenario = rng.zipf(1.3, count) % 40 if alike else rng.integers(0, max(1, count // 2), count)
    closeness = rng.integers(0, 3, count) / 4 if alike else rng.random(count)
    number = (rng.zipf(2.0, count) % 5).astype(np.int32)
    columns = {"number": number, "closeness": closeness.astype(np.float32), "scenario": coded(scenario.astype(str))}
    columns |= {name: coded(rng.choice(values, count)) for name, values in VALUES.items()}
    columns["cluster"] = coded(number.astype(str))
    for name in ("complexity", "quality", "ifd", "density"):
        values = np.round(rng.random(count) * 2, 1 if alike else 6)
        columns[name] = np.where(rng.random(count) < 0.1, np.nan, values)
    return pa.table({**columns, "mean_nll": rng.random(count).astype(np.float32)})


def coded(values: np.ndarray) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values.tolist(), pa.string()).dictionary_encode().cast(decide.CODE)])


def ranged(tables: list[pa.Table], vectors: list[np.ndarray], pick: Pick) -> list[bool]:
    """Return the mask of the picked rows of all tables, picked in ranges."""
    executor = InProcess()
    put = [executor.start(lambda value=value: value)[0] for value in tables]
    of_rows = [executor.start(lambda value=value: value)[0] for value in vectors] if pick.order == "information" else []
    masks = pick_flow.pick(put, of_rows, [len(table) for table in tables], pick, executor)
    return np.concatenate(executor.fetch(masks)).tolist()


PICKS = [
    {"count": 150},
    {"count": 10_000},
    {"per_cluster": 20},
    {"count": 200, "per_cluster": 70, "quotas": {"layer": {"core": 0.3, "*": 60}, "difficulty": {"hard": 25}}},
    {"quotas": {"cluster": {"0": 3, "*": 40}, "layer": {"long_tail": 1}}},
]


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("section", PICKS)
@pytest.mark.parametrize("order", pick_flow.ORDERS)
def test_ranges_pick_what_one_task_picks(order: str, section: dict, alike: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng([len(order), len(section), alike])
    pick = Pick.model_validate({"order": order, **section})
    tables = [pickable(count, rng, alike=alike) for count in (120, 0, 333, 1, 46)]
    vectors = [rng.standard_normal((len(table), 8)).astype(np.float32) for table in tables]
    whole = decide.eligible(pa.concat_tables(tables), np.concatenate(vectors), pick)
    expected = select(whole, pick)
    assert 0 < expected.sum() <= 500
    for rows in (500, 90, 7):
        monkeypatch.setattr(pick_flow, "RANGE_ROWS", rows)
        assert ranged(tables, vectors, pick) == expected.tolist()


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize(("tables", "rows", "range_rows"), [(8, 500, 500), (80, 250, 10_000), (200, 30, 3_000), (3, 4_000, 500)])
def test_a_task_holds_a_range_and_no_more(
    tables: int, rows: int, range_rows: int, alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Also where all rows are equal but for their number. What a bundle of tables has is as much again at most."""
    seen = []

    class Watched(InProcess):
        def start(self, op: Any, *args: Any, returns: int = 1) -> list[Any]:
            given = [arg.result() for arg in args if hasattr(arg, "result")]
            seen.append((op.__name__, sum(len(each) for each in given if isinstance(each, pa.Table) and "at" in each.column_names)))
            return super().start(op, *args, returns=returns)

    rng = np.random.default_rng(1)
    made = [pickable(rows, rng, alike=False) for _ in range(tables)]
    if alike:
        made = [made[0].take(pa.array(np.zeros(rows, np.int64)))] * tables
    monkeypatch.setattr(pick_flow, "RANGE_ROWS", range_rows)
    executor = Watched()
    put = [executor.start(lambda table=table: table)[0] for table in made]
    masks = pick_flow.pick(put, [], [rows] * tables, Pick(count=700), executor)
    picked = np.concatenate(executor.fetch(masks)).nonzero()[0].tolist()
    assert len(picked) == 700 and (not alike or picked == list(range(700)))
    held = {name: max(count for of, count in seen if of == name) for name in ("_placed", "_take", "_split")}
    mean = tables * rows / -(-tables * rows // range_rows)
    assert mean <= max(held["_placed"], held["_take"]) <= 1.3 * mean
    assert held["_split"] <= max(rows, 1.3 * mean, -(-tables // 60) * rows)
