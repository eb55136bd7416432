"""When a report of decontamination says something of a release, and why it does not."""

import pytest

from engine.release.staleness import apart, stale

TOLD = {"holdout": "h1", "files": {"exam.jsonl": "e1"}}
NOW = {"holdout": "h1", "lists": {"exam.jsonl": "e1"}}


def test_report_of_the_same_holdout_and_lists_is_fresh():
    assert list(stale(TOLD, **NOW)) == []
    assert list(stale({"holdout": "h1", "files": {}}, holdout="h1", lists={})) == []


@pytest.mark.parametrize(
    ("told", "now", "reason"),
    [
        (None, {}, "never compared with the holdout"),
        (TOLD | {"holdout": "h0"}, {}, "another holdout"),
        (TOLD | {"files": {}}, {}, "not compared with the evaluation list exam.jsonl"),
        (TOLD, {"lists": {}}, "exam.jsonl is no longer in the contract"),
        (TOLD, {"lists": {"exam.jsonl": "e2"}}, "exam.jsonl has changed"),
        (TOLD, {"lists": {"exam.jsonl": "missing"}}, "exam.jsonl cannot be found"),
    ],
)
def test_each_difference_alone_makes_it_stale(told, now, reason):
    (found,) = stale(told, **(NOW | now))
    assert reason in found


def test_artifacts_that_were_made_from_others_are_named():
    records = {
        "prompts": {"fingerprint": "p", "inputs": {}},
        "dataset": {"fingerprint": "d", "inputs": {"prompts": "p"}},
        "students/s": {"fingerprint": "s", "inputs": {"dataset": "d"}},
        "reports": {"fingerprint": "r", "inputs": {"prompts": "p", "dataset": "d"}},
    }
    assert list(apart("students/s", records)) == []
    other = records | {"prompts": {"fingerprint": "other", "inputs": {}}}
    assert [reason.split(" was")[0] for reason in apart("students/s", other)] == ["dataset", "reports"]
    (found,) = apart("students/s", records | {"students/s": {"fingerprint": "s", "inputs": {"dataset": "d0"}}})
    assert found.startswith("students/s was made from another dataset")
