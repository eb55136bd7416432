"""Quotas of synthesis: how many prompts of which layer, from which seeds; and settings that are refused."""

import itertools

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.contract.synthesize import Synthesis
from engine.prompts import quota
from engine.records.prompts import PromptsMetrics
from tests.unit.test_prompts_synthesis import synthesis

SHARES = {"core": 0.5, "failure_mode": 0.25, "long_tail": 0.25}


@pytest.mark.parametrize(
    ("count", "shares", "existing", "expected"),
    [
        (4, SHARES, {"core": 10, "failure_mode": 0, "long_tail": 2}, (0, 3, 1)),
        (8, SHARES, {"core": 0, "failure_mode": 0, "long_tail": 0}, (4, 2, 2)),
        (3, {"core": 2, "long_tail": 1}, {"core": 0, "failure_mode": 5, "long_tail": 0}, (2, 0, 1)),
        (5, {}, {"core": 0, "failure_mode": 0, "long_tail": 0}, (2, 2, 1)),
    ],
)
def test_allocate_divides_by_what_the_layers_lack(count, shares, existing, expected):
    result = quota.allocate(count, shares, existing)
    assert sum(result.values()) == count and tuple(result.values()) == expected


def test_quotas_follow_shares_seeds_and_quotas_of_earlier_syntheses():
    first, second = synthesis("counter_example", model=None, wanted=4), synthesis("evolve", wanted=4)
    third = synthesis("paraphrase", wanted={"long_tail": 2})
    result = quota.quotas([first, second, third], SHARES, {"core": 8, "failure_mode": 0, "long_tail": 0})
    assert result == {("counter_example", "failure_mode"): 4, ("evolve", "long_tail"): 4, ("paraphrase", "long_tail"): 2}


def test_later_rounds_request_only_what_is_missing_until_the_last_round():
    one = synthesis("evolve", rounds=2)
    wanted = {("evolve", "core"): 5, ("evolve", "long_tail"): 2}
    kept = {("evolve", "core"): 3, ("evolve", "long_tail"): 2}
    missing = {key: count - kept[key] for key, count in wanted.items()}
    second = quota.requests([one], missing, round=2, units_with_facts=[])
    assert [(request.layer, request.prompts) for request in second] == [("core", 2)]
    assert quota.requests([one], missing, round=3, units_with_facts=[]) == []


def test_seeds_are_used_round_robin_whatever_their_order_and_numbers_continue():
    parents = pa.table({"prompt_id": list("cabd"), "task_unit": ["form"] * 4, "layer": ["core"] * 3 + ["long_tail"]})
    requests = quota.requests([synthesis("evolve")], {("evolve", "core"): 7}, round=1, units_with_facts=[])
    asks = quota.assign(parents, requests, done={"evolve": 4})
    assert asks["ask"].to_pylist() == list(range(5, 12))
    counts = sorted(pair["counts"] for pair in pc.value_counts(asks["shown"]).to_pylist())
    assert counts == [2, 2, 3] and "d" not in asks["shown"].to_pylist()
    assert quota.assign(parents.take([3, 1, 2, 0]), requests, done={"evolve": 4}).equals(asks)


def test_seeds_of_one_ask_differ_and_are_of_one_task_unit():
    units = ["form", "letter", "form", "form", "letter", "note", "form"]
    parents = pa.table({"prompt_id": list("abcdefg"), "task_unit": units, "layer": ["core"] * 7})
    requests = quota.requests([synthesis("self_instruct")], {("self_instruct", "core"): 14}, round=1, units_with_facts=[])
    asks = quota.assign(parents, requests, done={}).to_pylist()
    shown = [[row["shown"] for row in rows] for _, rows in itertools.groupby(asks, key=lambda row: row["ask"])]
    unit_of = dict(zip("abcdefg", units, strict=True))
    assert sorted(ids[0] for ids in shown) == sorted("abcdefg" * 2)
    for ids in shown:
        unit = unit_of[ids[0]]
        assert len(set(ids)) == len(ids) == min(3, units.count(unit)) and {unit_of[name] for name in ids} == {unit}


def test_layer_without_a_seed_uses_seeds_of_other_layers():
    parents = pa.table({"prompt_id": ["a"], "task_unit": ["form"], "layer": ["core"]})
    requests = quota.requests([synthesis("self_instruct")], {("self_instruct", "long_tail"): 2}, round=1, units_with_facts=[])
    asks = quota.assign(parents, requests, done={})
    assert asks["wanted"].to_pylist() == ["long_tail"] * 2 and asks["shown"].to_pylist() == ["a", "a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": {"type": "evolve"}, "model": None}, "model: is needed"),
        ({"method": {"type": "counter_example"}, "wanted": {"core": 1}}, "always of the layer failure_mode"),
        ({"method": {"type": "evolve"}, "sampling": {"n": 2}}, "expected 1"),
        ({"method": {"type": "evolve", "operators": ["shorten"]}}, "operators"),
        ({"method": {"type": "evolve"}, "wanted": 0}, "wanted"),
    ],
)
def test_impossible_synthesis_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Synthesis.model_validate({"wanted": 1, "model": {"type": "fake"}, **change})


def test_metrics_of_an_older_record_are_read_under_their_older_names():
    older = {"source": "synthesize/evolve", "layer": "core", "wanted": 4, "asked": 6, "made": 5, "kept": 2, "missing": 2}
    record = {"layers": {}, "redacted": {}, "sources": {}, "seconds": 1.0, "synthesis": {"tokens_in": 9, "quotas": [older]}}
    metrics = PromptsMetrics.model_validate(record)
    assert metrics.synthesis is not None
    [result] = metrics.synthesis.quotas
    assert (result.requested, result.valid, metrics.synthesis.tokens_out) == (6, 5, 0)
    assert PromptsMetrics.model_validate(metrics.model_dump(mode="json")) == metrics
