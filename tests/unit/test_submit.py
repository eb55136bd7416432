"""`rayleigh submit` against a stand-in for Ray's client: identity, attempts, secrets, exit codes. tests/line has the real one."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import pytest

from engine.errors import InputError
from jobs.commands import submit
from jobs.commands.submit import Submission, exit_code, follow, includes, plan

RUN = "s3://bucket/runs/mine"


@dataclass
class Job:
    submission_id: str
    status: str
    driver_exit_code: int | None = None
    metadata: dict[str, str] | None = None
    entrypoint: str = ""
    job_id: str | None = None
    asks: int = -1
    """Questions after which it has ended, once it was stopped."""


@dataclass
class StandIn:
    """Ray's job server: it refuses an id that was used."""

    jobs: list[Job] = field(default_factory=list)
    sent: list[dict] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    def submit_job(self, **job):
        if job["submission_id"] in [one.submission_id for one in self.jobs]:
            raise RuntimeError("Job with submission_id exists")
        self.sent.append(job)
        self.jobs.append(Job(job["submission_id"], "RUNNING", metadata=job["metadata"], entrypoint=job["entrypoint"]))
        return job["submission_id"]

    def list_jobs(self):
        return self.jobs

    def get_job_info(self, job_id):
        job = next(job for job in self.jobs if job.submission_id == job_id)
        job.asks -= 1
        if not job.asks:
            job.status = "STOPPED"
        return job

    def stop_job(self, job_id):
        self.stopped.append(job_id)
        self.get_job_info(job_id).asks = 3
        return True

    async def tail_job_logs(self, job_id):
        yield "first\n"
        self.get_job_info(job_id).status = "FAILED"
        self.get_job_info(job_id).driver_exit_code = 3
        yield "second\n"


@pytest.fixture
def submission() -> Submission:
    return plan("jobs/contracts/smoke.yaml", RUN, profile="cluster", changes=[], working_dir=None)


def quiet(line: str) -> None: ...


def test_job_is_the_run_in_the_folder_of_the_contract(submission):
    assert submission.entrypoint == f"rayleigh run smoke.yaml {RUN} --profile cluster"
    assert submission.working_dir == str(Path("jobs/contracts").resolve())
    assert submission.id.startswith("rayleigh-order-mail-smoke-")


def test_identity_is_that_of_contract_and_run_folder(submission):
    same = plan("jobs/contracts/smoke.yaml", f"{RUN}/", profile="gpu-node", changes=[], working_dir=None)
    other = plan("jobs/contracts/smoke.yaml", f"{RUN}2", profile="cluster", changes=[], working_dir=None)
    changed = plan("jobs/contracts/smoke.yaml", RUN, profile="cluster", changes=["students.xs.epochs=3"], working_dir=None)
    assert same.id == submission.id and len({submission.id, other.id, changed.id}) == 3
    assert changed.entrypoint.endswith("--set students.xs.epochs=3")


def test_second_submit_attaches_and_a_failed_run_gets_a_further_attempt(submission):
    client = StandIn()
    first = submit.submit(client, submission, quiet)
    assert submit.submit(client, submission, quiet) == first and len(client.sent) == 1
    client.jobs[0].status = "FAILED"
    second = submit.submit(client, submission, quiet)
    assert second == f"{first}-2" and len(client.sent) == 2
    client.jobs[1].status = "SUCCEEDED"
    assert submit.submit(client, submission, quiet) == second and len(client.sent) == 2


def test_attempts_are_counted_though_the_cluster_has_forgotten_some(submission):
    client = StandIn([Job(f"{submission.id}-{number}", "FAILED") for number in (12, 3)] + [Job(f"{submission.id}-x", "RUNNING")])
    assert submit.submit(client, submission, quiet) == f"{submission.id}-13"
    assert submit.submit(client, submission, quiet) == f"{submission.id}-13" and len(client.sent) == 1


def test_a_run_folder_in_which_another_job_works_is_refused(submission):
    client = StandIn()
    first = submit.submit(client, submission, quiet)
    changed = plan("jobs/contracts/smoke.yaml", RUN, profile="cluster", changes=["students.xs.epochs=3"], working_dir=None)
    with pytest.raises(InputError, match=rf"{RUN}: the job {first} works in this run folder.*ray job stop {first}"):
        submit.submit(client, changed, quiet)
    client.jobs[0].status = "STOPPED"
    assert submit.submit(client, changed, quiet) == changed.id
    kuberay = Job("rayjob-x", "RUNNING", entrypoint=f"rayleigh run /home/ray/contract.yaml {RUN}/ --profile cluster")
    with pytest.raises(InputError, match="rayjob-x"):
        submit.submit(StandIn([kuberay]), submission, quiet)
    other = Job("rayjob-x", "RUNNING", entrypoint=f"rayleigh run /home/ray/contract.yaml {RUN}2 --profile cluster")
    assert submit.submit(StandIn([other]), submission, quiet) == submission.id


def test_value_of_a_key_is_nowhere_in_the_job(tmp_path, monkeypatch):
    monkeypatch.setenv("T_KEY", "secret-value")
    path = tmp_path / "c.yaml"
    path.write_text(
        "name: mine\nspecialist: {goal: count, task_units: [{name: count, kind: decision}]}\n"
        "prompts: {sources: [{path: 's3://b/a.jsonl', licence: x}], holdout: {path: 's3://b/h.jsonl', labels: rule}}\n"
        "teachers: {mode: direct, models: [{name: t, model: {type: endpoint, path: m, url: 'http://x/v1', key_env: T_KEY}}]}\n"
        "judges: {}\nstudents: [{name: s, init: {prune: {source: smollm2-135m-instruct, layers: [0]}}}]\ngate: {}\n"
    )
    client = StandIn()
    submit.submit(client, plan(str(path), RUN, profile="cluster", changes=[], working_dir=None), quiet)
    [job] = client.sent
    assert "secret-value" not in repr(job) and job["metadata"]["environment"] == "T_KEY"
    assert job["runtime_env"]["working_dir"] == str(tmp_path)


def test_logs_are_followed_and_the_code_is_that_of_the_run(submission):
    client, written = StandIn(), []
    name = submit.submit(client, submission, quiet)
    assert follow(client, name, quiet, written.append) == 3
    assert written == ["first\n", "second\n"]


class Torn(StandIn):
    """Its connections are torn at first: within the log, at once, and when the record is asked for."""

    def __init__(self, faults):
        super().__init__()
        self.faults = list(faults)

    async def tail_job_logs(self, job_id):
        yield "first\nsec"
        if self.faults and self.faults[0] != "record":
            raise self.faults.pop(0)
        yield "ond\n"
        self.get_job_info(job_id).status = "SUCCEEDED"

    def get_job_info(self, job_id):
        if self.faults == ["record"]:
            self.faults.clear()
            raise ConnectionError("refused")
        return super().get_job_info(job_id)


def test_a_lost_connection_is_opened_again_and_the_log_goes_on_where_it_was(submission, monkeypatch):
    monkeypatch.setattr(submit, "RECONNECT_SECONDS", 0)
    client, written, lines = Torn([RuntimeError("closed"), OSError("reset"), "record"]), [], []
    name = submit.submit(client, submission, quiet)
    assert follow(client, name, lines.append, written.append) == 0
    assert "".join(written) == "first\nsecond\n" and len(lines) == 2 and "closed" in lines[0]


def test_a_cluster_that_does_not_answer_any_more_is_named_with_its_job(submission, monkeypatch):
    monkeypatch.setattr(submit, "RECONNECT_SECONDS", 0)
    client = Torn([OSError("reset")] * 99)
    name = submit.submit(client, submission, quiet)
    with pytest.raises(InputError, match=rf"{name}: .* not answer any more: reset.*repeat the command"):
        follow(client, name, quiet, quiet)


class Idle(StandIn):
    """Each connection of a silent job is torn after some time, or is never opened; the job ends with the last."""

    def __init__(self, cuts, error):
        super().__init__()
        self.cuts, self.error = cuts, error

    async def tail_job_logs(self, job_id):
        yield "first\n"
        self.cuts -= 1
        await asyncio.sleep(0.001)
        if self.cuts:
            raise self.error
        self.get_job_info(job_id).status = "SUCCEEDED"


CUT = RuntimeError("closed unexpectedly with close code 1006")


def test_a_silent_job_is_followed_over_any_number_of_idle_connections(submission, monkeypatch):
    monkeypatch.setattr(submit, "RECONNECT_SECONDS", 0)
    monkeypatch.setattr(submit, "LASTED_SECONDS", 0)
    client, written, lines = Idle(30, CUT), [], []
    name = submit.submit(client, submission, quiet)
    assert follow(client, name, lines.append, written.append) == 0
    assert written == ["first\n"] and len(lines) == 1  # told once, not at each cut


@pytest.mark.parametrize(("lasted", "error"), [(60, CUT), (0, TimeoutError("no answer"))])
def test_what_is_torn_at_once_or_never_opened_is_not_tried_for_ever(submission, monkeypatch, lasted, error):
    monkeypatch.setattr(submit, "RECONNECT_SECONDS", 0)
    monkeypatch.setattr(submit, "LASTED_SECONDS", lasted)
    monkeypatch.setattr(submit, "RECONNECTS", 3)
    client = Idle(30, error)
    name = submit.submit(client, submission, quiet)
    with pytest.raises(InputError, match="does not answer any more"):
        follow(client, name, quiet, quiet)
    assert client.cuts == 26


class Polite(StandIn):
    """Its first connections are closed in order, as by a proxy, while the job goes on."""

    connections = 0

    async def tail_job_logs(self, job_id):
        self.connections += 1
        for number in range(self.connections):
            yield f"line {number}\n"
        if self.connections == 3:
            self.get_job_info(job_id).status = "SUCCEEDED"


def test_a_connection_that_is_closed_while_the_job_runs_is_opened_again(submission, monkeypatch):
    monkeypatch.setattr(submit, "POLL_SECONDS", 0)
    client, written = Polite(), []
    name = submit.submit(client, submission, quiet)
    assert follow(client, name, quiet, written.append) == 0
    assert "".join(written) == "line 0\nline 1\nline 2\n"


def test_a_closed_pipe_ends_the_command_and_is_no_lost_connection(submission):
    client = StandIn()
    name = submit.submit(client, submission, quiet)

    def write(text):
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        follow(client, name, lambda line: pytest.fail(line), write)


@pytest.mark.parametrize(
    ("status", "code", "found"),
    [("SUCCEEDED", 0, 0), ("FAILED", 3, 3), ("FAILED", None, 1), ("FAILED", -9, 1), ("STOPPED", None, 130)],
)
def test_exit_code(status, code, found):
    assert exit_code(Job("x", status, code)) == found


def test_stop_ends_the_running_attempt_only(submission, monkeypatch):
    monkeypatch.setattr(submit, "POLL_SECONDS", 0)
    client = StandIn()
    with pytest.raises(InputError, match="none is running"):
        submit.stop(client, submission, quiet)
    name = submit.submit(client, submission, quiet)
    submit.stop(client, submission, quiet)
    assert client.stopped == [name]
    assert submit.submit(client, submission, quiet) == f"{name}-2"  # it has waited for the end: nobody follows a dying job
    submit.stop(client, submission, quiet, waits=False)
    assert client.jobs[1].status == "RUNNING"


def test_files_outside_of_the_folder_and_local_run_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"lie outside of it"):
        plan("jobs/contracts/smoke.yaml", RUN, profile="cluster", changes=[], working_dir=str(tmp_path))
    with pytest.raises(InputError, match=r"Write s3://BUCKET/runs/mine"):
        plan("jobs/contracts/smoke.yaml", "runs/mine", profile="cluster", changes=[], working_dir=None)


def test_every_file_that_nodes_read_must_be_sent(tmp_path):
    folder = tmp_path / "sent"
    folder.mkdir()
    contract = folder / "contract.yaml"
    contract.write_text(
        "name: mine\nspecialist: {goal: g, task_units: [{name: u, kind: decision}]}\n"
        "prompts: {sources: [{path: a.jsonl, licence: l}], holdout: {path: b.jsonl, labels: human}}\n"
        "teachers: {mode: direct, models: [{name: t, model: {type: student, run: ../earlier, name: s}}]}\njudges: {}\n"
        "students: [{name: s, init: {prune: {source: smollm2-135m-instruct, layers: [0]}}}]\ngate: {}\n"
        "capture: {tokenizers: {t: ../tokenizer}}\n"
    )
    with pytest.raises(InputError, match=r"outside of it") as refused:
        plan(str(contract), RUN, profile="cluster", changes=[], working_dir=None)
    assert "teachers.models.0.model: " in str(refused.value) and "capture.tokenizers.t: " in str(refused.value)
    plan(str(contract), RUN, profile="cluster", changes=[], working_dir=str(tmp_path))


def test_includes_of_includes_are_found(tmp_path):
    (tmp_path / "a.yaml").write_text("x: !include b.yaml\ny: [!include c.json]")
    (tmp_path / "b.yaml").write_text("z: !include d.txt")
    for name, text in {"d.txt": "d", "c.json": "1"}.items():
        (tmp_path / name).write_text(text)
    assert [path.name for path in includes(tmp_path / "a.yaml")] == ["b.yaml", "d.txt", "c.json"]


def test_what_only_looks_like_an_include_is_none_and_a_quoted_one_is_one(tmp_path, monkeypatch):
    (tmp_path / "a.yaml").write_text(
        "# !include old.yaml\nx: !include '../b c.txt'\ny: '!include c.txt'\nz: !include memory://d.txt"
    )
    (tmp_path.parent / "b c.txt").write_text("b")
    with fsspec.open("memory://d.txt", "wt") as file:
        file.write("d")
    assert includes(tmp_path / "a.yaml") == [tmp_path / "../b c.txt"]
