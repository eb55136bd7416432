"""What the answers of a run say of its judge: agreement with the rules, drift between batches and between runs."""

import numpy as np
import pyarrow as pa
import pytest

from engine.calibration import drift
from engine.contract.judges import Audit
from engine.rows import CANDIDATE
from engine.storage.shards import Folder

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


def found(pieces, before=None):
    return {one["probe"]: one for one in drift.audit(drift.scores(pieces), Audit(), before)}


def test_steady_judge_is_not_accused_of_drift_over_20_seeds():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        before = {"run": "r", "scores": drift.scores(batches(rng, [0.5] * 12)).all}
        verdicts = found(batches(rng, [0.5] * 12), before)
        assert {verdicts[name]["found"] for name in ("batches", "runs")} <= {"within", "unclear"}


def test_batch_that_lies_apart_is_found_over_20_seeds():
    for seed in range(20):
        one = found(batches(np.random.default_rng(seed), [0.4] * 6 + [0.8] + [0.4] * 5))["batches"]
        assert one["found"] == "beyond" and one["value"] == pytest.approx(0.4, abs=0.12) and one["n"] == 360


def test_run_that_lies_apart_from_the_last_is_found():
    rng = np.random.default_rng(3)
    before = {"run": "runs/old/candidates", "scores": drift.scores(batches(rng, [0.7] * 5)).all}
    one = found(batches(rng, [0.4] * 5), before)["runs"]
    assert one["found"] == "beyond" and one["value"] == pytest.approx(-0.3, abs=0.05) and one["why"] == "since runs/old/candidates"


def test_first_run_and_small_runs_have_nothing_to_compare():
    verdicts = found([shard([0.5, 0.6])])
    assert {name: one["found"] for name, one in verdicts.items()} == dict.fromkeys(("rules", "batches", "runs"), "unmeasured")
    assert verdicts["runs"]["why"].startswith("no earlier run with this judge")
    assert found([])["batches"]["found"] == "unmeasured"


def test_answers_to_one_prompt_count_as_one():
    same = pa.concat_tables([shard([value], start=0) for value in (0.2, 0.4, 0.6)])
    assert drift.scores([same]).all == pytest.approx((1, 0.4, 0.16))


def test_rules_are_agreed_with_where_failed_answers_score_lower():
    rng = np.random.default_rng(5)
    low, high = (shard(rng.normal(mean, 0.1, 200), checks=checks) for mean, checks in ((0.3, FAILED), (0.7, PASSED)))
    agrees = found([low, high])["rules"]
    assert agrees["value"] > 0.95 and agrees["low"] > 0.9 and agrees["found"] == "measured"
    blind = found([shard(rng.uniform(size=300), checks=checks) for checks in (PASSED, FAILED)])["rules"]
    assert blind["low"] < 0.5 < blind["high"]


def test_area_of_the_histogram_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(6)
    passed, failed = np.round(rng.uniform(0.3, 1, 80), 2), np.round(rng.uniform(0, 0.7, 50), 2)
    area = drift.rules(drift.scores([shard(passed), shard(failed, checks=FAILED)]))
    assert area and area["value"] == pytest.approx(roc_auc_score([1] * 80 + [0] * 50, [*passed, *failed]), abs=2e-3)


def test_answers_that_were_not_marked_or_cut_off_do_not_count():
    given = drift.scores([shard([0.5, None]), shard([0.9], finish_reason="length")])
    assert given.all.count == 1 and given.passed.sum() == 1


def test_scores_of_the_latest_other_run_are_found_in_a_shared_ledger(tmp_path):
    ledger = Folder(str(tmp_path))
    for created, run in ((1.0, "a"), (3.0, "b"), (2.0, "c")):
        drift.keep(ledger, "ff", run, drift.scores([shard([0.5] * 6)]), created)
    drift.keep(ledger, "ee", "other-judge", drift.scores([shard([0.1] * 6)]), 9.0)
    assert drift.last(ledger, "ff", "c")["run"] == "b" and drift.last(ledger, "ff", "b")["run"] == "c"
    assert drift.last(ledger, "dd", "a") is None
    drift.keep(ledger, "ff", "b", drift.scores([shard([0.9] * 6)]), 4.0)  # made anew: its own scores are no other run's
    assert drift.last(ledger, "ff", "a")["scores"][1] == pytest.approx(5.4)
    assert len(ledger.files()) == 4
