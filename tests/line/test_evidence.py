"""Confidence from evidence on real Ray: calibrated once before the first answer is graded, and graded again without a teacher."""

import json
from pathlib import Path

import pytest
import yaml

from engine.inference.token_budget import JUDGE_TOKENS, TEACHER_TOKENS, usage_in
from engine.records.candidates import CandidatesMetrics
from engine.rows import CANDIDATE
from engine.runs.job import run_job
from engine.storage.artifact import Artifact
from jobs import workspace
from jobs.commands import rejudge
from jobs.pipeline import pipeline
from tests.line import data_world as world

GOLD = [
    {
        "input": f"mail {number}",
        "answer": "a b c"[: 1 + number % 5] + "x" * (number % 2) * 80,
        "label": "wrong" if number % 2 else "right",
        "group": str(number // 2),
    }
    for number in range(16)
]
ORDER = {
    **world.CONTRACT,
    "teachers": {"mode": "judged", "models": [{"name": "t", "model": {"type": "fake"}}]},
    "judges": {"evidence": {"of": ["mean_logprob", "length"]}, "calibrate": {"gold": GOLD, "folds": 2}},
}
POOLS = {"cpu": {"actors": 2, "cpus": 0.5}, "teacher": {"batch": 8}, "judge": {"actors": 2, "batch": 8}}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, cluster: None) -> workspace.Workspace:
    """A run with 24 answers, the mails themselves."""
    folder = tmp_path_factory.mktemp("evidence")
    (folder / "order.yaml").write_text(yaml.safe_dump(ORDER))
    (folder / "profile.yaml").write_text(yaml.safe_dump({"name": "small", **POOLS}))
    world.write_jsonl(folder / "seeds.jsonl", [{"input": text} for text in [*world.mails(12), *(f"m{n}" for n in range(12))]])
    world.write_jsonl(folder / "holdout.jsonl", [{"input": "We need 3 red kites.", "reference": "{}"}])
    made = workspace.create(str(folder / "order.yaml"), str(folder / "run"), profile=str(folder / "profile.yaml"), changes=[])
    made.save()
    for job in pipeline(made.contract)[:2]:
        run_job(made.context(job, log=print, progress=print))
    return made


def candidates(work: workspace.Workspace) -> Artifact:
    return workspace.finished(work.folder, "candidates")


def test_every_answer_has_a_confidence_from_one_calibration(work: workspace.Workspace) -> None:
    rows = candidates(work).read("candidates", CANDIDATE).to_pylist()
    assert len(rows) == 24 and all(row["confidence"] is not None and row["judge"] == "evidence" for row in rows)
    judge = candidates(work).metrics(CandidatesMetrics).judge
    assert judge and judge.evidence and judge.evidence.judged == 24 and judge.evidence.asked is None
    assert (
        usage_in(work.folder / "ledger" / JUDGE_TOKENS)["evidence"].answers == 16
    )  # each labelled item once, by one of two actors


def test_another_threshold_asks_nobody(work: workspace.Workspace) -> None:
    paid = [usage_in(work.folder / "ledger" / name) for name in (JUDGE_TOKENS, TEACHER_TOKENS)]
    found = rejudge.rejudge(work.folder.url, changes=["judges.accept.confidence=1.0"])
    assert found.pools.after["review"] == 24 > found.pools.before["review"] and found.paid == 0
    assert paid == [usage_in(work.folder / "ledger" / name) for name in (JUDGE_TOKENS, TEACHER_TOKENS)]
    assert (Path(work.folder.path) / "rejudged" / "record.json").is_file()


def test_evidence_is_read_from_the_record(work: workspace.Workspace) -> None:
    record = json.loads((Path(work.folder.path) / "candidates" / "record.json").read_text())
    fit = record["metrics"]["judge"]["evidence"]
    assert fit["form"] in ("one", "all") and fit["why"] and {kind["name"] for kind in fit["kinds"]} == {"mean_logprob", "length"}
