"""Jobs of a cluster of Ray: the attempts of one run, and other jobs that work in its run folder."""

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from engine.errors import InputError

RUNNING, SUCCEEDED, STOPPED = ("PENDING", "RUNNING"), "SUCCEEDED", "STOPPED"
ENDED = (SUCCEEDED, STOPPED, "FAILED")
RUN = "rayleigh_run"  # key of a job's metadata


class Client(Protocol):
    """What is used of Ray's JobSubmissionClient."""

    def submit_job(self, *, entrypoint: str, submission_id: str, runtime_env: Any, metadata: Any) -> str: ...
    def get_job_info(self, job_id: str) -> Any: ...
    def stop_job(self, job_id: str) -> bool: ...
    def tail_job_logs(self, job_id: str) -> AsyncIterator[str]: ...
    def list_jobs(self) -> Sequence[Any]: ...


def attempts(client: Client, name: str) -> list[tuple[str, str]]:
    """Return id and status of each attempt of a run, in their order."""
    known = {job.submission_id: status(job) for job in client.list_jobs() if job.submission_id}
    found = [one for one in known if number_of(name, one)]  # Ray forgets old jobs, so numbers may be missing
    return [(one, known[one]) for one in sorted(found, key=lambda one: number_of(name, one))]


def number_of(name: str, job: str) -> int:
    """Return which attempt of the run `name` the id `job` is, from 1 on; 0 if it is none."""
    found = re.fullmatch(rf"{re.escape(name)}(?:-(\d+))?", job)
    return int(found[1] or 1) if found else 0


def require_alone(client: Client, run: str) -> None:
    """See that no other job works in the run folder: of a KubeRay manifest, a driver on the head, or another contract.

    Raises:
        InputError: one does; both would pay.
    """
    for job in client.list_jobs():
        if status(job) in RUNNING and run and _works_in(job, run):
            name = job.submission_id or job.job_id
            raise InputError(
                f"{run}: the job {name} works in this run folder, by another contract or from elsewhere, and both would "
                f"pay. Let it end, end it with `ray job stop {name}`, or name another run folder."
            )


def _works_in(job: Any, run: str) -> bool:
    """Return whether the metadata of a job, or else its command, names the run folder."""
    if noted := (job.metadata or {}).get(RUN):
        return noted == run
    words = (job.entrypoint or "").split()
    return "run" in words and run in [word.strip("'\"").rstrip("/") for word in words]


def status(info: Any) -> str:
    """Return the status in the record of a job, such as RUNNING."""
    return str(getattr(info.status, "value", info.status))
