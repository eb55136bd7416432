"""How many prompts of each layer to write, and from which seeds. Parents are always seeds, so that drift does not accumulate."""

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
ASK = pa.schema(  # one row for each seed of an ask; about 100 bytes
    [
        ("ask", pa.int64()),  # of its synthesis from 1, over all rounds
        ("title", pa.string()),  # of the synthesis
        ("wanted", pa.string()),  # the layer
        ("round", pa.int32()),
        ("slot", pa.int32()),  # 0 is the parent
        ("shown", pa.string()),  # prompt_id of the seed
    ]
)
QuotaKey = tuple[str, str]
"""(title of a synthesis, layer)."""


class QuotaRequest(NamedTuple):
    """Ask for `prompts` prompts of a layer."""

    title: str
    layer: str
    prompts: int
    round: int
    num_examples: int  # seeds shown for each prompt, the parent included
    method: str  # its type
    task_units: tuple[str, ...]  # of the seeds; empty: all


def quotas(syntheses: Sequence[Synthesis], shares: Mapping[Layer, float], seeds: Mapping[str, int]) -> dict[QuotaKey, int]:
    """Return how many prompts each synthesis adds to each layer.

    Args:
        shares: wanted shares of the layers, taken as proportions; empty: as they are now.
        seeds: number of seeds by layer. Prompts of earlier syntheses count as existing for later ones.
    """
    existing = {layer: seeds.get(layer, 0) for layer in LAYERS}
    result: dict[QuotaKey, int] = {}
    for synthesis in syntheses:
        counts = {layer: count for layer, count in _by_layer(synthesis, shares, existing).items() if count}
        for layer, count in counts.items():
            result[synthesis.title, layer] = count
            existing[layer] += count
    return result


def requests(
    syntheses: Sequence[Synthesis], missing: Mapping[QuotaKey, int], *, round: int, units_with_facts: Sequence[str]
) -> list[QuotaRequest]:
    """Return the requests of `round` for the prompts that are `missing`.

    `units_with_facts` are the task units whose prompts can be counter-examples.
    """
    result = []
    for synthesis in syntheses:
        method = synthesis.method
        num_examples = method.num_examples if method.type == "self_instruct" else 1
        units = tuple(units_with_facts) if method.type == "counter_example" else ()
        for layer in LAYERS:
            count = missing.get((synthesis.title, layer), 0)
            if count > 0 and round <= synthesis.rounds:
                result.append(QuotaRequest(synthesis.title, layer, count, round, num_examples, method.type, units))
    return result


def assign(parents: pa.Table, requests: Sequence[QuotaRequest], *, done: Mapping[str, int]) -> pa.Table:
    """PARENT in any order in, ASK out; numbers continue after those that are `done` by title.

    Seeds are used round-robin. If a layer has no seed, seeds of all layers are used, except for paraphrases.
    """
    parents = parents.sort_by("prompt_id")
    numbers = Counter(done)
    tables = [ASK.empty_table()]
    for request in requests:
        candidates = _parents_for(parents, request)
        if len(candidates):
            tables.append(_round_robin(candidates, request, numbers[request.title] + 1))
            numbers[request.title] += request.prompts
    return pa.concat_tables(tables)


def batched(asks: pa.Table, titles: Sequence[str], *, size: int) -> pa.Table:
    """Return the rows of ASK of `titles` with a column `batch`: numbers of batches of `size` asks."""
    selected = asks.filter(pc.is_in(asks["title"], pa.array(titles)))
    ordinal = np.cumsum(selected["slot"].to_numpy() == 0) - 1
    return selected.append_column("batch", pa.array(ordinal // size, pa.int64()))


def with_seeds(prompts: pa.Table, asks: pa.Table) -> pa.Table:
    """Return the rows of `asks` whose seed is in `prompts`, with the seed's columns of PROMPT."""
    indices = pc.index_in(asks["shown"], prompts["prompt_id"].combine_chunks())
    result, seeds = asks.filter(indices.is_valid()), prompts.select(PROMPT.names).take(indices.drop_null())
    for name in PROMPT.names:
        result = result.append_column(PROMPT.field(name), seeds[name])
    return result


def _by_layer(synthesis: Synthesis, shares: Mapping[Layer, float], existing: Mapping[str, int]) -> dict[str, int]:
    if isinstance(synthesis.wanted, dict):
        return {str(layer): count for layer, count in synthesis.wanted.items()}
    if synthesis.method.type == "counter_example":
        return {FAILURE_MODE: synthesis.wanted}
    return allocate(synthesis.wanted, {str(layer): share for layer, share in shares.items()} or existing, existing)


def allocate(count: int, shares: Mapping[str, float], existing: Mapping[str, int]) -> dict[str, int]:
    """Divide `count` among the layers in proportion to what each lacks of its share of the total, by largest remainders."""
    sum_shares, total = sum(shares.values()), sum(existing.values()) + count
    if not sum_shares:
        return allocate(count, dict.fromkeys(LAYERS, 1.0), existing)
    deficits = {layer: max(0.0, shares.get(layer, 0) / sum_shares * total - existing[layer]) for layer in LAYERS}
    exact = {layer: count * deficit / sum(deficits.values()) for layer, deficit in deficits.items()}
    floors = {layer: int(part) for layer, part in exact.items()}
    by_remainder = sorted(LAYERS, key=lambda layer: floors[layer] - exact[layer])
    return {layer: floors[layer] + (layer in by_remainder[: count - sum(floors.values())]) for layer in LAYERS}


def _parents_for(parents: pa.Table, request: QuotaRequest) -> pa.Table:
    if request.task_units:
        parents = parents.filter(pc.is_in(parents["task_unit"], pa.array(request.task_units)))
    is_suitable = pc.equal(parents["layer"], request.layer)
    if request.method == "counter_example":
        is_suitable = pc.invert(is_suitable)  # most failure modes lack a fact already
    suitable = parents.filter(is_suitable)
    return suitable if len(suitable) or request.method == "paraphrase" else parents


def _round_robin(parents: pa.Table, request: QuotaRequest, first: int) -> pa.Table:
    number, slot = np.divmod(np.arange(request.prompts * request.num_examples), request.num_examples)
    start = int(content_id(request.title, request.layer, request.round)[:8], 16)
    units = parents["task_unit"].combine_chunks().dictionary_encode().indices.to_numpy()
    seed = _example_indices(units, (start + number) % len(parents), slot, request.num_examples)
    number, slot, seed = number[seed >= 0], slot[seed >= 0], seed[seed >= 0]
    columns = {
        "ask": first + number,
        "title": [request.title] * len(seed),
        "wanted": [request.layer] * len(seed),
        "round": [request.round] * len(seed),
        "slot": slot.astype(np.int32),
        "shown": parents["prompt_id"].take(pa.array(seed)),
    }
    return pa.table(columns, schema=ASK)


def _example_indices(units: np.ndarray, parent: np.ndarray, slot: np.ndarray, num_examples: int) -> np.ndarray:
    """Return the seed of each slot: the parent in slot 0, then others spread over its task unit; -1 if that has no more.

    Args:
        units: task unit of each seed, as a number.
        parent: index of the parent, for each slot.
    """
    by_unit = np.argsort(units, kind="stable")
    size = np.bincount(units)
    first = np.cumsum(size) - size
    rank = np.empty(len(units), np.int64)
    rank[by_unit] = np.arange(len(units)) - first[units[by_unit]]
    unit = units[parent]
    step = np.maximum(1, size[unit] // num_examples)
    index = first[unit] + (rank[parent] + slot * step) % size[unit]
    return np.where(slot < size[unit], by_unit[index], -1)
