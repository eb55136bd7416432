"""When the decontamination report covers a release, and why it does not."""

import pytest

from engine.release.staleness import ArtifactInputs, Compared, mismatched_inputs, stale

COMPARED = Compared("h1", {"exam.jsonl": "e1"})
NOW = {"holdout": "h1", "lists": {"exam.jsonl": "e1"}}


def test_report_of_the_same_holdout_and_lists_is_fresh():
    assert list(stale(COMPARED, **NOW)) == []
    assert list(stale(Compared("h1", {}), holdout="h1", lists={})) == []


@pytest.mark.parametrize(
    ("compared", "now", "reason"),
    [
        (None, {}, "never compared with the holdout"),
        (COMPARED._replace(holdout="h0"), {}, "another holdout"),
        (COMPARED._replace(lists={}), {}, "not compared with the evaluation list exam.jsonl"),
        (COMPARED, {"lists": {}}, "exam.jsonl is no longer in the contract"),
        (COMPARED, {"lists": {"exam.jsonl": "e2"}}, "exam.jsonl has changed"),
        (COMPARED, {"lists": {"exam.jsonl": "missing"}}, "exam.jsonl cannot be found"),
    ],
)
def test_each_difference_alone_makes_it_stale(compared, now, reason):
    (found,) = stale(compared, **(NOW | now))
    assert reason in found


def test_artifacts_that_were_made_from_others_are_named():
    records = {
        "prompts": ArtifactInputs("p", {}),
        "dataset": ArtifactInputs("d", {"prompts": "p"}),
        "students/s": ArtifactInputs("s", {"dataset": "d"}),
        "reports": ArtifactInputs("r", {"prompts": "p", "dataset": "d"}),
    }
    assert list(mismatched_inputs("students/s", records)) == []
    other = records | {"prompts": ArtifactInputs("other", {})}
    assert [reason.split(" was")[0] for reason in mismatched_inputs("students/s", other)] == ["dataset", "reports"]
    (found,) = mismatched_inputs("students/s", records | {"students/s": ArtifactInputs("s", {"dataset": "d0"})})
    assert found.startswith("students/s was made from another dataset")
