"""A job that drops most of its rows for one reason says so: on the console, in its record and in the status."""

import pytest

from engine.capture.schemas import SCORED
from engine.contract.contract import Contract
from engine.contract.profile import Profile
from engine.records.status import JobStatus
from engine.rows import DROPPED_BY, POOLS, PROMPT_DROPS, REJECTED
from engine.runs.job import Job, JobContext, run_job
from engine.storage.artifact import ArtifactWriter, RowCounts, load_artifact
from engine.storage.folder import Folder
from jobs.commands.status import warning_lines
from jobs.pipeline import pipeline

CONTRACT = {
    "name": "toy",
    "specialist": {"goal": "count", "task_units": [{"name": "count", "kind": "decision"}]},
    "prompts": {"sources": [{"path": "a.jsonl", "licence": "CC0-1.0"}], "holdout": {"path": "b.jsonl", "labels": "rule"}},
    "teachers": {"mode": "direct", "models": [{"name": "t", "model": {"type": "fake"}}]},
    "judges": {},
    "students": [{"name": "s", "init": {"prune": {"source": "m", "layers": [0]}}}],
    "gate": {},
}
COUNTS = RowCounts(100, {"kept": 9, "near": 31, "odd": 10, "sample": 50})


def count(context: JobContext) -> RowCounts:
    return COUNTS


def ran(folder, **section):
    """Return the warnings of the record, and the lines of the console, of a job that counts `COUNTS`."""
    losses = {"near": "Look into {run}.", "odd": "Look again."}
    job = Job("toy", needs=(), reads=("gate",), run=f"{__name__}:count", losses=losses, chosen=("sample",))
    run, lines = Folder(str(folder)), []
    order, profile, writer = Contract.model_validate(CONTRACT | section), Profile(name="toy"), ArtifactWriter(run / "toy")
    run_job(JobContext(job, order, profile, root="", models="", run=run, writer=writer, log=lines.append))
    artifact = load_artifact(run / "toy")
    assert artifact
    return artifact.record.warnings, lines


def test_reason_of_most_rows_is_a_warning_and_rows_left_out_on_purpose_do_not_count(tmp_path):
    [warning], lines = ran(tmp_path)
    assert warning == f"toy dropped 31 of 50 rows (62 %) as near, more than warn_above (50 %). Look into {tmp_path}."
    assert lines[-1] == f"WARNING: {warning}"
    job = JobStatus(name="toy", state="finished", warnings=(warning,))
    assert warning_lines((job,)) == f"WARNING: {warning}" and warning_lines((JobStatus(name="toy", state="missing"),)) == ""


@pytest.mark.parametrize(("limit", "found"), [(0.62, 0), (0.61, 1), (0.1, 2), (1.0, 0), (0.0, 2)])
def test_contract_sets_the_share(tmp_path, limit, found):
    assert len(ran(tmp_path, warn_above=limit)[0]) == found


def test_losses_of_the_pipeline_are_labels_of_its_jobs():
    jobs = {job.name: {*job.losses, *job.chosen} for job in pipeline(Contract.model_validate(CONTRACT | {"capture": {}}))}
    assert jobs["capture"] == {*SCORED.values, "copies"} - {"stop"}
    assert (
        jobs["prompts"] == {*REJECTED, *PROMPT_DROPS} and jobs["dataset"] == {*DROPPED_BY} - {""} and jobs["candidates"] <= {*POOLS}
    )
