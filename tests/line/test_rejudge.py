"""Another judge for the answers of a run, on real Ray: nobody asks the teacher, which would die of it."""

import json
from pathlib import Path

import pytest
import yaml

from engine.inference.token_budget import JUDGE_TOKENS, TEACHER_TOKENS, usage_in
from engine.records.record import Identity
from engine.rows import ANSWER, CANDIDATE, PROMPT, from_rows
from engine.runs.recipe import identify
from engine.storage.artifact import RowCounts, load_artifact
from engine.storage.shards import hex_digest, rows_digest, table_of, write_shard
from jobs import workspace
from jobs.commands import rejudge
from jobs.pipeline import pipeline
from tests.line import data_world as world

ORDER = {
    **world.CONTRACT,
    "teachers": {"mode": "judged", "models": [{"name": "t", "model": {"type": "fake", "dies_on": " "}}]},
    "judges": {"rubrics": [{"name": "j", "model": {"type": "fake"}, "system": "Judge.", "question": "{text} {answer}"}]},
}
POOLS = {"cpu": {"actors": 2, "cpus": 0.5}, "judge": {"actors": 1, "batch": 8}}
CHANGES = [
    "judges.rubrics.0.question='{answer} to {text}'",
    "judges.signals={model: {type: fake}, quality: {}, ifd: true, density: true}",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cluster: None) -> workspace.Workspace:
    """A run whose 40 answers to 20 prompts lie in four shards."""
    folder = tmp_path_factory.mktemp("rejudge")
    (folder / "order.yaml").write_text(yaml.safe_dump(ORDER))
    (folder / "profile.yaml").write_text(yaml.safe_dump({"name": "small", **POOLS}))
    work = workspace.create(str(folder / "order.yaml"), str(folder / "run"), profile=str(folder / "profile.yaml"), changes=[])
    work.save()
    rows = [row | {"pool": "train", "reasons": ["accepted"]} for row in world.candidate_rows(world.mails(20))]
    prompts = [{name: row[name] for name in PROMPT.names} for row in rows[::2]]
    for job, name, schema, table in (
        (pipeline(work.contract)[0], "prompts", PROMPT, from_rows(prompts, PROMPT)),
        (pipeline(work.contract)[1], "candidates", CANDIDATE, from_rows(rows, CANDIDATE)),
    ):
        context = work.context(job, log=print, progress=print)
        pieces = [table.slice(start, 10) for start in range(0, len(table), 10)]
        shards = [write_shard(context.writer.folder / name, piece, schema) for piece in pieces]
        context.writer.tables[name] = table_of(shards, hex_digest(rows_digest(table)))
        head = identify(context) if name == "candidates" else Identity(name, {}, {}, "0")
        context.writer.finish(head, RowCounts(len(table), {"rows": len(table)}))
    return work


def test_answers_are_graded_without_the_teacher_and_only_once(run: workspace.Workspace) -> None:
    old = load_artifact(run.folder / "candidates")
    assert old
    found = rejudge.rejudge(run.folder.url, changes=CHANGES)
    made = load_artifact(run.folder / "rejudged")
    assert made
    before, after = (one.read("candidates", CANDIDATE).sort_by("answer_id") for one in (old, made))
    assert after.select(ANSWER.names) == before.select(ANSWER.names)
    assert set(after["score"].to_pylist()) == {1.0} and after["quality"].null_count == after["density"].null_count == 0
    assert found["answers"] == 40 == sum(found["pools"]["after"].values()) and found["paid"] > 0
    assert usage_in(run.folder / "ledger" / TEACHER_TOKENS) == {} and set(usage_in(run.folder / "ledger" / JUDGE_TOKENS)) == {
        "j",
        "signals",
    }

    paid = rejudge.rejudge(run.folder.url, changes=[*CHANGES, "judges.accept.confidence=0.9"])["paid"]
    assert paid == 0  # a threshold: every mark and signal is in the ledger

    written = rejudge.rejudge(run.folder.url, changes=CHANGES, write=True)
    now = load_artifact(run.folder / "candidates")
    assert now and written["written"] and written["paid"] == 0
    assert now.read("candidates", CANDIDATE).sort_by("answer_id").drop_columns(["seconds"]) == after.drop_columns(["seconds"])
    assert json.loads(Path(run.folder.path, "run.json").read_text())["contract"]["judges"]["signals"]["ifd"] is True
