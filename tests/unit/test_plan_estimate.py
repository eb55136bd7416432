"""The plan is extrapolated from a pilot; numbers by hand."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import yaml
from made_run import YAML

from engine.contract.budget import Price, TokenPrice
from engine.contract.contract import Contract
from engine.records.plan import JobPlan, Range
from engine.rows import PROMPT, from_rows
from jobs.commands import estimate, plan
from jobs.commands.estimate import Extrapolation, Pilot, Rates

RATES = Rates(
    price=Price(per_machine_hour=3600, tokens=TokenPrice(per_1m_in=1_000_000)),  # a token in costs 1, a machine second 1
    at_once={"ours": 2, "theirs": 10},
    shares={"ours": 1.0, "theirs": 0.0},
    pools=frozenset({"train"}),
)
ROW = {
    "finish_reason": "stop",
    "pool": "train",
    "tokens_in": 10,
    "tokens_out": 4,
    "seconds": 6.0,
    "text": "abcdef",
    "answer": "xy",
}
ROWS = [
    {**ROW, "prompt_id": "p", "teacher": "ours"},
    {**ROW, "prompt_id": "p", "teacher": "ours", "tokens_out": 8, "pool": "contrast"},
    {**ROW, "prompt_id": "p", "teacher": "theirs", "seconds": 20.0},
    {**ROW, "prompt_id": "q", "teacher": "ours", "pool": "failure", "finish_reason": "too_long", "tokens_in": 9_999},
]


def test_sums_of_each_prompt_by_hand():
    sums, tokens = estimate.sums(ROWS, ["p", "q", "r"], RATES)
    assert sums["answers"].tolist() == [3, 1, 0]
    assert sums["tokens_in"].tolist() == [30, 0, 0]  # a prompt that is too long is not asked
    assert sums["tokens_out"].tolist() == [16, 0, 0]
    assert sums["engine_seconds"].tolist() == [3 + 3 + 2, 0, 0]  # two actors of ours, ten requests of theirs at once
    assert sums["money"].tolist() == [30 + 12, 0, 0]  # a server's seconds cost no machine
    assert sums["learnable"].tolist() == [1, 0, 0]
    assert sums["size"].tolist() == [24, 8, 0]
    assert (sums["exam_in"][0], sums["exam_out"][0], sums["exam_money"][0]) == (20, 6 + 4, 20)  # one answer a teacher
    assert {teacher: values.tolist() for teacher, values in tokens.items()} == {"ours": [32, 0, 0], "theirs": [14, 0, 0]}


def span(value, low, high):
    return Range(value=value, low=low, high=high)


def pilot(*tokens, represents, seconds=30.0):
    ones = np.ones(len(tokens))
    sums = {name: ones for name in estimate.SUMS} | {"tokens_in": np.array(tokens, float), "tokens_out": np.zeros(len(tokens))}
    return Pilot(sums, represents=represents, seconds=seconds, bytes=1000)


def extrapolate(drawn):
    return Extrapolation(drawn, times=500, level=0.95, seed=0)


def test_total_is_in_proportion_to_prompts():
    total = extrapolate(pilot(10, 30, represents=100)).total("tokens_in")
    assert total == span(2000.0, 1000.0, 3000.0)  # both drawn twice: the ends of a pilot of two


def test_total_of_equal_prompts_has_no_width():
    assert extrapolate(pilot(7, 7, 7, represents=300)).total("tokens_in") == span(2100.0, 2100.0, 2100.0)


def test_interval_narrows_with_the_pilot_and_holds_the_truth():
    chance = np.random.default_rng(1)
    tokens = chance.gamma(2.0, 50.0, size=4000)
    widths = []
    for drawn in (20, 500):
        total = extrapolate(pilot(*tokens[:drawn], represents=4000)).total("tokens_in")
        assert total.low < tokens.sum() < total.high
        widths.append(total.high - total.low)
    assert widths[1] < widths[0] / 3


def test_candidates_load_their_models_once():
    job = estimate.candidates(extrapolate(pilot(1, 1, represents=20)))
    assert job.seconds.value == 30.0 + 9 * 2  # the pilot's, and one engine second for each of the 18 other prompts
    assert job.bytes.value == 10 * 1000 and job.rows.value == 20


def test_pilot_of_all_prompts_is_what_it_measured():
    job = estimate.candidates(extrapolate(pilot(5, 6, represents=2)))
    assert (job.tokens_in.value, job.seconds.value) == (11.0, 30.0)


def test_share_of_prompts_has_a_width_although_all_drawn_ones_have_it():
    # Wilson, 10 of 10 at 95 %: 1 / (1 + 1.96 ** 2 / 10) = 0.7225
    count = extrapolate(pilot(*[1] * 10, represents=1000)).count("learnable")
    assert (count.value, count.low, count.high) == (1000.0, pytest.approx(722.5, abs=0.1), pytest.approx(1000.0))


def test_cap_suffices_for_as_many_prompts_as_it_pays():
    estimates = extrapolate(pilot(10, 30, represents=100))
    assert estimates.prompts_within(400).model_dump() == {"value": 20.0, "low": pytest.approx(400 / 30), "high": 40.0}
    assert estimates.prompts_within(10**9).value == 100.0


def test_what_a_pilot_cannot_see_is_null_and_says_why():
    estimates = extrapolate(pilot(1, 1, represents=20))
    for job in (estimate.dataset(estimates), estimate.student("s", estimates, validation=0.1)):
        assert [getattr(job, unit) for unit in ("tokens_in", "tokens_out", "seconds", "money", "bytes")] == [None] * 5 and job.basis
    reports = estimate.reports(estimates, models=3, holdout=8)
    assert reports.rows.value == 24 and reports.tokens_in.value == 8 and reports.seconds is None


def everything(**judges):
    """A contract that pays for all that can be paid for."""
    raw = yaml.safe_load(YAML)
    fake = {"type": "fake"}
    rubric = {"name": "j", "model": fake, "system": "S", "question": "{text} {answer}"}
    raw["teachers"]["mode"] = "judged"
    raw["judges"] = {"rubrics": [rubric], "signals": {"model": fake, "quality": {}}, **judges}
    raw["prompts"]["synthesize"] = [{"method": {"type": "evolve"}, "wanted": 2, "model": fake}]
    raw["curation"] = {"contrastive": [{"type": "rewrite", "model": fake, "checks": [{"type": "json_schema"}]}]}
    return Contract.model_validate(raw)


def test_every_consumer_of_a_paid_model_has_its_tokens_or_a_reason():
    plain = pilot(10, 30, represents=100)
    measured = dataclasses.replace(plain, tokens={"t": np.array([10.0, 30.0])}, judge_tokens={"j": 7})
    plans = estimate.consumer_plans(everything(), extrapolate(measured), synthesis=90)
    assert [(consumer.kind, consumer.name, consumer.cap) for consumer in plans] == [
        ("synthesis", "synthesis", "teacher_tokens"), ("teacher", "t", "teacher_tokens"), ("judge", "j", "judge_tokens"),
        ("signals", "signals", "judge_tokens"), ("repair", "rewrite", "teacher_tokens"),
    ]  # fmt: skip
    assert [consumer.tokens and consumer.tokens.value for consumer in plans] == [90, 2000.0, 350.0, None, None]
    assert all(consumer.basis.startswith("not measured: ") for consumer in plans if consumer.tokens is None)


def test_tokens_of_labelled_items_make_the_judges_an_upper_bound():
    measured = dataclasses.replace(pilot(10, 30, represents=100), judge_tokens={"j": 7})
    gold = [{"input": str(n), "answer": "a", "label": "right" if n % 2 else "wrong"} for n in range(8)]
    plans = estimate.consumer_plans(everything(calibrate={"gold": gold}), extrapolate(measured), synthesis=None)
    [judge] = [consumer for consumer in plans if consumer.kind == "judge"]
    assert judge.basis.startswith("at most: ")


def test_sum_of_jobs_skips_what_is_unknown():
    jobs = [JobPlan(name="j", basis="", money=money) for money in (None, span(2, 1, 3), span(5, 5, 5))]
    assert estimate.together(jobs, "money") == span(7, 6, 8)
    assert estimate.together(jobs[:1], "money") is None


@pytest.mark.parametrize(("total", "count", "positions"), [(10, 2, [2, 7]), (3, 5, [0, 1, 2]), (300, 2, [75, 225]), (1, 1, [0])])
def test_drawn_prompts_are_spread_evenly(total, count, positions):
    assert plan.spread(total, count) == positions


def test_drawn_prompts_are_found_in_any_shards():
    rows = from_rows([{"prompt_id": str(n)} for n in range(10)], PROMPT)
    pieces = [rows.slice(0, 4), rows.slice(4, 0), rows.slice(4, 1), rows.slice(5)]
    assert plan.at(pieces, [0, 3, 4, 9])["prompt_id"].to_pylist() == ["0", "3", "4", "9"]
    assert plan.at([pa.concat_tables(pieces)], [])["prompt_id"].to_pylist() == []
