"""How far a run is, read from its records.

`rayleigh status RUN --json` prints

    run         the folder or URL
    contract    the contract's name
    created     when `rayleigh run` first opened the folder, ISO 8601, UTC
    jobs        one object a job of the line, in order:
        name        such as `candidates` or `students/s`
        state       finished | unfinished (begun, no record has landed) | missing
        seconds     wall time; null unless finished
        rows_in     rows that the job read; null unless finished
        rows_out    label (pool, split or drop reason) -> rows; {} unless finished
        conserved   whether rows_in is the sum of rows_out; null unless finished
"""

import json
from typing import Any

from engine.lineage.artifact import Draft, load_artifact
from engine.lineage.job import Job
from engine.shards import Folder
from jobs import workspace
from jobs.console import columns
from jobs.line import line


def status(run: str) -> dict[str, Any]:
    """Return the object that the module describes."""
    work = workspace.reopen(run)
    created = json.loads(work.folder.read(workspace.RUN))["created"]
    jobs = [_state(work.folder, job) for job in line(work.contract)]
    return {"run": str(work.folder), "contract": work.contract.name, "created": created, "jobs": jobs}


def _state(folder: Folder, job: Job) -> dict[str, Any]:
    artifact = load_artifact(folder / job.name)
    if artifact is None:
        begun = Draft(folder / job.name).folder.exists()
        nothing = {"seconds": None, "rows_in": None, "rows_out": {}, "conserved": None}
        return {"name": job.name, "state": "unfinished" if begun else "missing", **nothing}
    tally = artifact.record["tally"]
    return {
        "name": job.name,
        "state": "finished",
        "seconds": artifact.record["seconds"],
        "rows_in": tally["rows_in"],
        "rows_out": tally["rows_out"],
        "conserved": tally["rows_in"] == sum(tally["rows_out"].values()),
    }


def as_text(found: dict[str, Any]) -> str:
    """Return the object as a table: one line a job, rows in = rows out by label."""
    return f"{found['run']}: {found['contract']}, created {found['created']}\n\n{funnel(found['jobs'])}"


def funnel(jobs: list[dict[str, Any]]) -> str:
    """Return one line a job: rows in, rows out by label, whether they agree."""
    rows = [
        [
            job["name"],
            job["state"],
            None if job["seconds"] is None else round(job["seconds"]),
            job["rows_in"],
            " + ".join(f"{count} {label}" for label, count in job["rows_out"].items() if count),
            {True: "all rows accounted for", False: "ROWS LOST", None: ""}[job["conserved"]],
        ]
        for job in jobs
    ]
    return columns(rows, head=["job", "state", "seconds", "rows in", "rows out", ""])
