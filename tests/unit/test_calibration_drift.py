"""Drift of a judge on the answers of a run: against the checks, between batches, between runs."""

import numpy as np
import pyarrow as pa
import pytest

from engine.calibration import drift
from engine.contract.judges import Audit
from engine.records.judge import JudgeScores
from engine.rows import CANDIDATE
from engine.storage.folder import Folder

PASSED, FAILED = ([{"check": "c", "passed": one, "tag": "", "detail": ""}] for one in (True, False))


def shard(values, *, start=0, checks=None, finish_reason="stop"):
    rows = [
        {
            "prompt_id": f"p{start + n}",
            "finish_reason": finish_reason,
            "score": float(value) if value is not None else None,
            "checks": checks or PASSED,
        }
        for n, value in enumerate(values)
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema([CANDIDATE.field(name) for name in drift.COLUMNS]))


def batches(rng, means, *, rows=30):
    return [shard(np.clip(rng.normal(mean, 0.15, rows), 0, 1), start=rows * n) for n, mean in enumerate(means)]


def probes(pieces, previous=None):
    return {probe.probe: probe for probe in drift.drift_probes(drift.run_scores(pieces), Audit(), previous)}


def scores_of(pieces, *, judge="ff", run="r", created=1.0):
    return JudgeScores(judge=judge, run=run, created=created, scores=drift.run_scores(pieces).all)


def test_steady_judge_is_not_accused_of_drift_over_20_seeds():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        before = scores_of(batches(rng, [0.5] * 12))
        verdicts = probes(batches(rng, [0.5] * 12), before)
        assert {verdicts[name].verdict for name in ("batches", "runs")} <= {"within", "unclear"}


def test_batch_that_lies_apart_is_found_over_20_seeds():
    for seed in range(20):
        one = probes(batches(np.random.default_rng(seed), [0.4] * 6 + [0.8] + [0.4] * 5))["batches"]
        assert one.verdict == "beyond" and one.value == pytest.approx(0.4, abs=0.12) and one.n == 360


def test_run_that_lies_apart_from_the_last_is_found():
    rng = np.random.default_rng(3)
    before = scores_of(batches(rng, [0.7] * 5), run="runs/old/candidates")
    one = probes(batches(rng, [0.4] * 5), before)["runs"]
    assert one.verdict == "beyond" and one.value == pytest.approx(-0.3, abs=0.05) and one.why == "since runs/old/candidates"


def test_first_run_and_small_runs_have_nothing_to_compare():
    verdicts = probes([shard([0.5, 0.6])])
    assert {name: one.verdict for name, one in verdicts.items()} == dict.fromkeys(("rules", "batches", "runs"), "unmeasured")
    assert verdicts["runs"].why.startswith("no earlier run with this judge")
    assert probes([])["batches"].verdict == "unmeasured"


def test_answers_to_one_prompt_count_as_one():
    same = pa.concat_tables([shard([value], start=0) for value in (0.2, 0.4, 0.6)])
    assert drift.run_scores([same]).all == pytest.approx((1, 0.4, 0.16))


def test_rules_are_agreed_with_where_failed_answers_score_lower():
    rng = np.random.default_rng(5)
    low, high = (shard(rng.normal(mean, 0.1, 200), checks=checks) for mean, checks in ((0.3, FAILED), (0.7, PASSED)))
    agrees = probes([low, high])["rules"]
    assert agrees.value > 0.95 and agrees.low > 0.9 and agrees.verdict == "measured"
    blind = probes([shard(rng.uniform(size=300), checks=checks) for checks in (PASSED, FAILED)])["rules"]
    assert blind.low < 0.5 < blind.high


def test_area_of_the_histogram_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(6)
    passed, failed = np.round(rng.uniform(0.3, 1, 80), 2), np.round(rng.uniform(0, 0.7, 50), 2)
    [rules, *_] = drift.drift_probes(drift.run_scores([shard(passed), shard(failed, checks=FAILED)]), Audit(), None)
    assert rules.value == pytest.approx(roc_auc_score([1] * 80 + [0] * 50, [*passed, *failed]), abs=2e-3)


def test_answers_without_a_score_or_cut_off_do_not_count():
    scores = drift.run_scores([shard([0.5, None]), shard([0.9], finish_reason="length")])
    assert scores.all.size == 1 and scores.passed.sum() == 1


def test_scores_of_the_latest_other_run_are_found_in_a_shared_ledger(tmp_path):
    ledger = Folder(str(tmp_path))
    for created, run in ((1.0, "a"), (3.0, "b"), (2.0, "c")):
        drift.save(ledger, scores_of([shard([0.5] * 6)], run=run, created=created))
    drift.save(ledger, scores_of([shard([0.1] * 6)], judge="ee", run="other-judge", created=9.0))
    assert drift.latest(ledger, "ff", "c").run == "b" and drift.latest(ledger, "ff", "b").run == "c"
    assert drift.latest(ledger, "dd", "a") is None
    drift.save(ledger, scores_of([shard([0.9] * 6)], run="b", created=4.0))  # run b was made again
    assert drift.latest(ledger, "ff", "a").scores[1] == pytest.approx(5.4)
    assert len(ledger.files()) == 4
