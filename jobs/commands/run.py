"""`rayleigh run`: run the unfinished jobs of one contract in one run folder."""

import time
from collections.abc import Sequence

from engine.runs.job import Job, JobContext, run_pipeline, unfinished, up_to
from jobs import workspace
from jobs.commands import status, summary
from jobs.pipeline import pipeline
from jobs.terminal.console import Console
from jobs.terminal.session import job_session


def run(path: str, folder: str, *, profile: str, changes: Sequence[str], until: str | None = None) -> None:
    """Run the unfinished jobs of the contract `path` in the run folder `folder`, and print a summary.

    With `until`, only that job and the jobs it needs run.

    Raises:
        InputError: there is no job `until`.
        RecipeMismatch: a finished job was made by another recipe; nothing has run.
        RayleighError: a job failed; finished jobs are kept.
    """
    work = workspace.create(path, folder, profile=profile, changes=changes)
    jobs = pipeline(work.contract) if until is None else up_to(pipeline(work.contract), until)
    console = Console()
    started = time.monotonic()

    def context(job: Job) -> JobContext:
        return work.context(job, log=console.log, progress=console.progress)

    with workspace.locked(work.folder):
        ran = run_pipeline(
            jobs,
            context,
            session=lambda: job_session(work, console, [job.name for job in unfinished(jobs, context)], at_once=False),
        )
    if ran:
        console.log(f"\n{len(ran)} {'job' if len(ran) == 1 else 'jobs'} in {time.monotonic() - started:.0f} s.")
    else:
        console.log(f"Nothing to do: {until or 'every job'} of {work.folder} is finished.")
    console.log("\n" + (status.as_text(status.status(folder)) if until else summary.text(folder, summary.report(folder))))
