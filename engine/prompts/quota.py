"""How many prompts of each layer are to be written, and from which seeds. A parent is always a seed: drift does not add up."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.synthesize import Layer, Synthesis
from engine.rows import LAYERS, PROMPT, content_id

FAILURE_MODE = LAYERS[1]
PARENT = pa.schema([("prompt_id", pa.string()), ("task_unit", pa.string()), ("layer", pa.string())])
ASK = pa.schema(  # one row for each seed that is shown; about 100 bytes
    [
        ("ask", pa.int64()),  # of its synthesis from 1, over all rounds
        ("title", pa.string()),  # of the synthesis
        ("wanted", pa.string()),  # the layer
        ("round", pa.int32()),
        ("slot", pa.int32()),  # 0 is the parent
        ("shown", pa.string()),  # prompt_id
    ]
)
Cell = tuple[str, str]
"""Title of a synthesis, and layer."""


class Order(NamedTuple):
    """So many prompts of a layer are asked for, from seeds of `task_units`."""

    title: str
    layer: str
    count: int
    round: int
    shown: int  # seeds for each
    kind: str  # the method's type
    task_units: tuple[str, ...]


def quotas(syntheses: Sequence[Synthesis], shares: Mapping[Layer, float], found: Mapping[str, int]) -> dict[Cell, int]:
    """Return how many prompts each synthesis shall add to each layer.

    Args:
        shares: wanted of the layers, taken as proportions; empty means as they are.
        found: seeds by layer. What an earlier synthesis shall add counts as there for a later one.
    """
    now = {layer: found.get(layer, 0) for layer in LAYERS}
    wanted: dict[Cell, int] = {}
    for one in syntheses:
        for layer, count in _by_layer(one, shares, now).items():
            if count:
                wanted[one.title, layer] = count
                now[layer] += count
    return wanted


def orders(
    syntheses: Sequence[Synthesis], wanted: Mapping[Cell, int], kept: Mapping[Cell, int], *, round: int, able: Sequence[str]
) -> list[Order]:
    """Return what is asked in `round`: all that is still missing. `able` names the task units of which facts can be taken away."""
    asked = []
    for one in syntheses:
        method = one.method
        shown = method.shown if method.type == "self_instruct" else 1
        units = tuple(able) if method.type == "counter_example" else ()
        for layer in LAYERS:
            count = wanted.get((one.title, layer), 0) - kept.get((one.title, layer), 0)
            if count > 0 and round <= one.rounds:
                asked.append(Order(one.title, layer, count, round, shown, method.type, units))
    return asked


def assign(parents: pa.Table, asked: Sequence[Order], *, done: Mapping[str, int]) -> pa.Table:
    """PARENT, in any order, in; ASK out, numbered on from what is `done` by title.

    Seeds take turns. An order whose layer has no seed takes those of all layers, but for paraphrases, which stay in their layer.
    """
    parents = parents.sort_by("prompt_id")
    numbers = Counter(done)
    tables = [ASK.empty_table()]
    for order in asked:
        mine = _parents_for(parents, order)
        if len(mine):
            tables.append(_turns(mine, order, numbers[order.title] + 1))
            numbers[order.title] += order.count
    return pa.concat_tables(tables)


def batched(asks: pa.Table, titles: Sequence[str], *, size: int) -> pa.Table:
    """Return the ASK of `titles` with the number of their `batch`, each of `size` asks."""
    mine = asks.filter(pc.is_in(asks["title"], pa.array(titles)))
    ordinal = np.cumsum(mine["slot"].to_numpy() == 0) - 1
    return mine.append_column("batch", pa.array(ordinal // size, pa.int64()))


def shown(prompts: pa.Table, asks: pa.Table) -> pa.Table:
    """Return `asks` whose seed is among `prompts`, with its columns of PROMPT."""
    places = pc.index_in(asks["shown"], prompts["prompt_id"].combine_chunks())
    here, seeds = asks.filter(places.is_valid()), prompts.select(PROMPT.names).take(places.drop_null())
    for name in PROMPT.names:
        here = here.append_column(PROMPT.field(name), seeds[name])
    return here


def _by_layer(one: Synthesis, shares: Mapping[Layer, float], now: Mapping[str, int]) -> dict[str, int]:
    if isinstance(one.wanted, dict):
        return {str(layer): count for layer, count in one.wanted.items()}
    if one.method.type == "counter_example":
        return {FAILURE_MODE: one.wanted}
    return spread(one.wanted, {str(layer): share for layer, share in shares.items()} or now, now)


def spread(count: int, shares: Mapping[str, float], now: Mapping[str, int]) -> dict[str, int]:
    """Return `count` given to the layers in proportion to what each lacks of its share of the whole, by largest remainders."""
    total, whole = sum(shares.values()), sum(now.values()) + count
    if not total:
        return spread(count, dict.fromkeys(LAYERS, 1.0), now)
    lacks = {layer: max(0.0, shares.get(layer, 0) / total * whole - now[layer]) for layer in LAYERS}
    exact = {layer: count * lack / sum(lacks.values()) for layer, lack in lacks.items()}
    given = {layer: int(part) for layer, part in exact.items()}
    rest = sorted(LAYERS, key=lambda layer: given[layer] - exact[layer])
    return {layer: given[layer] + (layer in rest[: count - sum(given.values())]) for layer in LAYERS}


def _parents_for(parents: pa.Table, order: Order) -> pa.Table:
    if order.task_units:
        parents = parents.filter(pc.is_in(parents["task_unit"], pa.array(order.task_units)))
    is_of_layer = pc.equal(parents["layer"], order.layer)
    if order.kind == "counter_example":
        is_of_layer = pc.invert(is_of_layer)  # most failure modes lack something already
    mine = parents.filter(is_of_layer)
    return mine if len(mine) or order.kind == "paraphrase" else parents


def _turns(parents: pa.Table, order: Order, first: int) -> pa.Table:
    number, slot = np.divmod(np.arange(order.count * order.shown), order.shown)
    start = int(content_id(order.title, order.layer, order.round)[:8], 16)
    units = parents["task_unit"].combine_chunks().dictionary_encode().indices.to_numpy()
    seed = _beside(units, (start + number) % len(parents), slot, order.shown)
    number, slot, seed = number[seed >= 0], slot[seed >= 0], seed[seed >= 0]
    columns = {
        "ask": first + number,
        "title": [order.title] * len(seed),
        "wanted": [order.layer] * len(seed),
        "round": [order.round] * len(seed),
        "slot": slot.astype(np.int32),
        "shown": parents["prompt_id"].take(pa.array(seed)),
    }
    return pa.table(columns, schema=ASK)


def _beside(units: np.ndarray, parent: np.ndarray, slot: np.ndarray, shown: int) -> np.ndarray:
    """Return the seed of each slot: the parent in slot 0, then others spread over its task unit; -1 where that has no more."""
    by_unit = np.argsort(units, kind="stable")
    size = np.bincount(units)
    first = np.cumsum(size) - size
    rank = np.empty(len(units), np.int64)
    rank[by_unit] = np.arange(len(units)) - first[units[by_unit]]
    mine = units[parent]
    step = np.maximum(1, size[mine] // shown)
    place = first[mine] + (rank[parent] + slot * step) % size[mine]
    return np.where(slot < size[mine], by_unit[place], -1)
