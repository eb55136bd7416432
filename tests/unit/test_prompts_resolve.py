"""What becomes of prompts does not depend on their blocks, and what a task is given does not grow with the number of rows."""

import random
from collections import Counter, defaultdict
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from in_process import InProcess
from test_prompts_copies import ingested

from engine.contract.profile import Pool
from engine.contract.prompts import Prompts
from engine.dedup import plan as dedup_plan
from engine.distributed import in_process, stream
from engine.distributed.thread_pool import Ref, ThreadPool
from engine.prompts import flow, resolve_flow, tables
from engine.prompts.earlier import EARLIER
from engine.prompts.quota import QuotaRequest
from engine.rows import content_id

SECTION = Prompts.model_validate(
    {
        "sources": [{"path": "seeds.jsonl", "licence": "CC0-1.0"}],
        "holdout": {"path": "holdout.jsonl", "labels": "rule"},
        "copies": {"threshold": 0.7, "ngram": 2},
        "shard_rows": 7,
    }
)
WORDS = [f"word{number}" for number in range(500)]


def rows_of(count, *, seed=0, rounds=1):
    """Return INGESTED of `count` rows: prompts of `rounds` rounds, near and exact copies, repeated ids of a source, rejects."""
    rng = random.Random(seed)
    found, texts = [], []
    for number in range(count):
        text = " ".join(rng.choices(WORDS, k=25))
        if texts and number % 5 == 1:
            text = rng.choice(texts) + " please" * (number % 2)
        texts.append(text)
        split = "train" if number % 7 else "holdout"
        more = {"round": number * rounds // count if split == "train" else 0, "task_unit": "u"}
        more |= {"source_id": str(number // 2)} if number % 11 < 2 else {}
        more |= {"reason": "empty", "prompt_id": None} if number % 13 == 5 else {}
        found.append((content_id(text, number), split, text, more))
    return ingested(*found)


def cut(table, blocks):
    """Return the table in blocks, some of which may be empty."""
    cuts = np.linspace(0, len(table), blocks + 1).astype(int).tolist()
    return [Ref.of(table.slice(start, stop - start)) for start, stop in pairwise(cuts)]


def resolved(table, blocks, executor, *, rounds=1, parts=None, section=SECTION):
    """Return DISPOSITIONS of each block, and the bounds of shards."""
    found = resolve_flow.resolve(cut(table, blocks), len(table), section, executor, rounds=rounds - 1, parts=parts)
    return executor.fetch(found.dispositions), executor.fetch(found.shard_bounds)


def in_order(dispositions):
    return pa.concat_tables(dispositions).sort_by("row_key").combine_chunks()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("rounds", "groups"), [(1, 512), (2, 512), (1, 3), (2, 3)])
def test_dispositions_and_shards_are_the_same_for_any_blocks_groups_and_parts(seed, rounds, groups, monkeypatch):
    monkeypatch.setattr(dedup_plan, "MOST_GROUPS", groups)
    table = rows_of(150, seed=seed, rounds=rounds)
    [one], bounds = resolved(table, 1, InProcess(), rounds=rounds)
    lost = Counter(one["disposition"].to_pylist())
    assert {"duplicate_id", "exact_copy", "near_copy", "holdout_copy", "holdout_near"} <= set(lost), lost
    is_kept = pc.and_(pc.equal(table["reason"], ""), pc.invert(pc.is_in(table["row_key"], one["row_key"].combine_chunks())))
    for name, split in tables.SPLITS.items():
        ids = sorted(table.filter(pc.and_(is_kept, pc.equal(table["split"], split)))["prompt_id"].to_pylist())
        assert bounds[name] == ids[7::7] and len(bounds[name]) > 1
    order = np.random.default_rng(seed).permutation(len(table))
    with ThreadPool(2) as pool:
        for blocks, parts, executor in ((4, None, pool), (40, 3, InProcess()), (200, 5, pool)):  # of 200 blocks some have no row
            many, its_bounds = resolved(table.take(pa.array(order)), blocks, executor, rounds=rounds, parts=parts)
            assert len(many) == blocks and in_order(many).equals(one.combine_chunks()) and its_bounds == bounds


@pytest.mark.parametrize("parts", [1, 2, 9, 64])
@pytest.mark.parametrize("shard_rows", [1, 4, 31, 32, 100])
def test_shards_are_cut_where_the_sorted_ids_of_all_rows_say(shard_rows, parts):
    ids = [content_id(number) for number in range(40)]
    keys = pa.table({"row_key": range(40), "prompt_id": ids, "split": ["train"] * 33 + ["holdout"] * 7}).cast(tables.SHARD_KEYS)
    dispositions = pa.table({"row_key": pa.array([3, 35], pa.int64())})
    blocks = [keys.take(pa.array(at)) for at in np.array_split(np.random.default_rng(3).permutation(40), 3)]
    kept = [tables.kept_by_range(block, dispositions, parts) for block in blocks]
    found, before = {name: [] for name in tables.SPLITS}, Counter(dict.fromkeys(tables.SPLITS, 0))
    for of_range in zip(*kept, strict=True):
        counts, of_tables = tables.sorted_ids(*of_range)
        for name, bounds in tables.shard_bounds(of_tables, before, shard_rows=shard_rows).items():
            found[name] += bounds
        before.update(counts)
    train, held = ids[:3] + ids[4:33], ids[33:35] + ids[36:]
    assert before == {"prompts": 32, "holdout": 6}
    assert found == {"prompts": sorted(train)[shard_rows::shard_rows], "holdout": sorted(held)[shard_rows::shard_rows]}


class Measuring(InProcess):
    """Keeps the most bytes that a task of each function was given, and counts references."""

    def __init__(self):
        self.bytes, self.references = defaultdict(int), 0

    def start(self, op, *args, returns=1):
        """See `Executor.start`."""
        given = sum(size(arg.result()) for arg in args if isinstance(arg, Ref))
        self.bytes[op.__name__] = max(self.bytes[op.__name__], given)
        self.references += returns
        return super().start(op, *args, returns=returns)


def size(value):
    """Return the bytes of the tables and arrays in `value`, of slices their own."""
    if isinstance(value, pa.Table | pa.ChunkedArray | np.ndarray):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(size, value.values()))
    return sum(map(size, value)) if isinstance(value, list | tuple) else 0


def measured(monkeypatch, rows, blocks):
    """Return the most bytes of a task of each function, and the references, for blocks of equal rows and parts of equal size."""
    monkeypatch.setattr(dedup_plan, "NODES_PER_TASK", 400)
    monkeypatch.setattr(dedup_plan, "KEYS_PER_TASK", 400 * 14)
    executor = Measuring()
    resolved(rows_of(rows), blocks, executor)
    return executor.bytes, executor.references


def test_no_task_is_given_more_however_many_rows_there_are(monkeypatch):
    small, large = measured(monkeypatch, 1_000, 10)[0], measured(monkeypatch, 4_000, 40)[0]
    mine = {"_sign", "_compute", "_settle", "sorted_ids", "_bounds"}  # those of the search itself are as of any corpus
    assert mine < set(small)
    assert {name: large[name] / small[name] for name in mine if large[name] > 1.5 * small[name]} == {}


def test_references_grow_with_rows_where_there_are_most_groups_and_not_with_their_square(monkeypatch):
    monkeypatch.setattr(dedup_plan, "MOST_GROUPS", 4)
    monkeypatch.setattr(dedup_plan, "MOST_PARTS", 4)
    small, large = (measured(monkeypatch, rows, rows // 100)[1] for rows in (1_000, 4_000))
    assert large < 4.2 * small, "four times the rows"


def test_the_sample_of_shared_ngrams_is_the_same_for_any_groups(monkeypatch):
    """Words are those of the first of equal texts, in the order of the rows."""
    texts = [f"open the box and read what it says {number % 900} {'TWICE' if number > 900 else 'twice'}" for number in range(1_500)]
    rows = [(content_id(number), "train", text, {"task_unit": f"u{number % 2}"}) for number, text in enumerate(texts)]
    table, found = ingested(*rows), []
    for groups, blocks in ((512, 1), (512, 30), (2, 30), (1, 30)):
        monkeypatch.setattr(dedup_plan, "MOST_GROUPS", groups)
        done = resolve_flow.resolve(cut(table, blocks), len(table), SECTION, InProcess())
        found.append(done.shared.result())
    assert found[0].grams and all(shared == found[0] for shared in found)


def test_each_block_is_labelled_with_its_own_dispositions_only(monkeypatch):
    table, seen = rows_of(120), []
    start = ThreadPool.start

    def spy(self, op, *args, returns=1):
        if op is resolve_flow.labelled:
            seen.append([arg.result() for arg in args if isinstance(arg, Ref)])
        return start(self, op, *args, returns=returns)

    monkeypatch.setattr(ThreadPool, "start", spy)
    with in_process.flows(True, Pool()):
        found = flow.resolve(stream.of([ref.result() for ref in cut(table, 12)]), SECTION, Pool())
        counts = flow.count(found, Pool())
    assert counts["disposition"].total() == 120 and counts["disposition"]["near_copy"]
    assert len(seen) == 12
    for block, dispositions, _ in seen:
        assert set(dispositions["row_key"].to_pylist()) <= set(block["row_key"].to_pylist())
    assert sum(len(dispositions) for _, dispositions, _ in seen) == sum(
        rows for name, rows in counts["disposition"].items() if name not in ("prompts", "holdout", "empty")
    )


@pytest.mark.parametrize("split", ["train", "holdout"])
def test_a_split_without_rows_has_no_bounds_and_the_other_is_as_in_any_blocks(split):
    table = rows_of(150)
    table = table.filter(pc.equal(table["split"], split))
    [one], bounds = resolved(table, 1, InProcess())
    empty, full = ("holdout", "prompts") if split == "train" else ("prompts", "holdout")
    assert bounds[empty] == [] and bounds[full]
    many, its_bounds = resolved(table, 9, InProcess(), parts=4)
    assert in_order(many).equals(one.combine_chunks()) and its_bounds == bounds


@pytest.mark.parametrize("blocks", [1, 3])
def test_no_rows_at_all_are_resolved_to_nothing(blocks):
    table = rows_of(5).slice(0, 0)
    dispositions, bounds = resolved(table, blocks, InProcess(), parts=2)
    assert [len(each) for each in dispositions] == [0] * blocks and bounds == {"prompts": [], "holdout": []}
    with in_process.flows(True, Pool()):
        found = flow.resolve(stream.of([table] * blocks), SECTION, Pool())
        assert flow.count(found, Pool()) == {}


def test_prompts_of_earlier_runs_are_as_they_were_before_the_rows_of_this_run():
    """They are searched among themselves first, with the holdout; the new rows lose to them, and change nothing there."""
    table = rows_of(150, rounds=2)
    rounds = pa.array(np.array(table["round"].to_pylist(), np.int32) - 1)  # EARLIER, and that of the sources
    table = table.set_column(table.schema.get_field_index("round"), "round", rounds)
    section = SECTION.model_copy(update={"earlier": ("of a test",)})
    before = table.filter(pc.equal(table["round"], EARLIER))
    [alone], _ = resolved(before, 1, InProcess(), section=section)
    [one], bounds = resolved(table, 1, InProcess(), section=section)
    assert one.filter(pc.is_in(one["row_key"], before["row_key"].combine_chunks())).combine_chunks().equals(alone.combine_chunks())
    assert len(one) > len(alone) > 0
    many, its_bounds = resolved(table, 40, InProcess(), section=section, parts=3)
    assert in_order(many).equals(one.combine_chunks()) and its_bounds == bounds


class Shown:
    """Writes nothing: returns the seeds that it is shown."""

    def __init__(self, spec):
        self.spec = spec

    def __call__(self, rows):
        return rows


def shown(table, blocks, monkeypatch):
    """Return the rows that synthesizers are shown for 14 asks of two layers, and how many blocks were labelled for it."""
    monkeypatch.setattr(flow, "Synthesizer", Shown)
    labelled, start = [], ThreadPool.start

    def spy(self, op, *args, returns=1):
        labelled.extend([op] if op is resolve_flow.labelled else [])
        return start(self, op, *args, returns=returns)

    pool = Pool(batch=4)
    requests = [
        QuotaRequest("instruct", "core", 9, 1, 3, "self_instruct", ()),
        QuotaRequest("rewrite", "core", 2, 1, 1, "paraphrase", ()),
        QuotaRequest("break", "failure_mode", 3, 1, 1, "counter_example", ()),
    ]
    specs = [SimpleNamespace(numbers=numbers, pool=pool) for numbers in ({"instruct": 2, "break": 4}, {"rewrite": 3})]
    with in_process.flows(True, pool):
        found = flow.resolve(stream.of([ref.result() for ref in cut(table, blocks)]), SECTION, pool)
        assigned = flow.assign(found, requests, {"instruct": 2}, pool)
        monkeypatch.setattr(ThreadPool, "start", spy)
        rows = pa.concat_tables(flow.synthesize(found, assigned, specs, pool).tables())
        monkeypatch.setattr(ThreadPool, "start", start)
    assert assigned.counts == {("instruct", "core"): 9, ("rewrite", "core"): 2, ("break", "failure_mode"): 3}
    return sorted(map(repr, rows.to_pylist())), len(labelled)


def test_the_seeds_that_are_shown_are_the_same_for_any_blocks_and_other_blocks_are_not_labelled(monkeypatch):
    table = rows_of(150)
    one, _ = shown(table, 1, monkeypatch)
    assert len(one) > 9 * 2 + 2
    for blocks in (5, 40):
        many, labelled = shown(table, blocks, monkeypatch)
        assert many == one and labelled <= 2 * min(blocks, len(one))
    few, labelled = shown(table, 150, monkeypatch)
    assert few == one and labelled < 150
