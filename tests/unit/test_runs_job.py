"""The job runner, through `run_pipeline`, with jobs that count how often they ran."""

import json
import os
import signal
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa
import pytest

from engine.contract.contract import Contract
from engine.contract.profile import Profile
from engine.errors import ConservationError, InputError, MissingArtifact, RecipeMismatch
from engine.runs.job import Job, JobContext, run_job, run_pipeline, up_to
from engine.storage.artifact import ArtifactWriter, RowCounts, load_artifact
from engine.storage.folder import Folder

SCHEMA = pa.schema([("id", pa.string()), ("value", pa.int64())])
CONTRACT = {
    "name": "toy",
    "specialist": {"goal": "count", "task_units": [{"name": "count", "kind": "decision"}]},
    "prompts": {"sources": [{"path": "a.jsonl", "licence": "CC0-1.0"}], "holdout": {"path": "b.jsonl", "labels": "rule"}},
    "teachers": {"mode": "direct", "models": [{"name": "t", "model": {"type": "fake"}}]},
    "judges": {},
    "students": [{"name": "s", "init": {"prune": {"source": "m", "layers": [0]}}}],
    "gate": {},
}
ran: Counter[str] = Counter()
sources = {"a.jsonl": "hash of a"}
behaviour = {}


@pytest.fixture(autouse=True)
def fresh():
    ran.clear()
    behaviour.clear()
    sources.update({"a.jsonl": "hash of a"})


def make(context: JobContext) -> RowCounts:
    """Run the toy job: call its function in `behaviour`, then write as many rows as the contract's `take`."""
    ran[context.job.name] += 1
    act = behaviour.get(context.job.name)
    rows = context.contract.prompts.sources[0].take or 3
    if act:
        act(context)
    context.writer.put("rows", pa.table({"id": [str(n) for n in range(rows)], "value": [n for n in range(rows)]}), SCHEMA)
    return RowCounts(rows, {"kept": rows})


def source_hashes(context: JobContext) -> dict:
    return dict(sources)


HERE = f"{__name__}:make"
SEEDS = Job("seeds", needs=(), reads=("prompts",), run=HERE, inputs=f"{__name__}:source_hashes")
ANSWERS = Job("answers", needs=("seeds",), reads=("teachers",), run=HERE)
LEFT = Job("students/left", needs=("answers",), reads=("students.s",), run=HERE)
RIGHT = Job("students/right", needs=("answers",), reads=("students.s",), run=HERE)
LAST = Job("last", needs=("students/left", "students/right"), reads=("gate",), run=HERE)
LINE = (SEEDS, ANSWERS, LEFT, RIGHT, LAST)


def drive(folder, *, jobs=LINE, session=None, lines=None, **changes):
    raw = json.loads(json.dumps(CONTRACT))
    raw["teachers"]["models"][0]["sampling"] = {"n": changes.get("n", 1)}
    raw["prompts"]["sources"][0]["take"] = changes.get("take")
    contract = Contract.model_validate(raw)
    run = Folder(str(folder))

    def context_for(job):
        say = lines.append if lines is not None else lambda line: None
        writer = ArtifactWriter(run / job.name)
        return JobContext(
            job=job, contract=contract, profile=Profile(name="toy"), root="", models="", run=run, writer=writer, log=say
        )

    return run_pipeline(jobs, context_for, session) if session else run_pipeline(jobs, context_for)


def fail(context):
    context.writer.folder.write("half.txt", b"half")
    raise InputError(f"{context.job.name} broke")


def left_over(folder):
    return [path for path in Folder(str(folder)).files() if ".building" in path or path.endswith("half.txt")]


def test_line_from_nothing_runs_every_job_once_in_order(tmp_path):
    assert drive(tmp_path) == ["seeds", "answers", "students/left", "students/right", "last"]
    assert set(ran.values()) == {1}


def test_line_finished_runs_nothing_and_enters_no_session(tmp_path):
    drive(tmp_path)

    @contextmanager
    def session():
        raise AssertionError("entered")
        yield

    assert drive(tmp_path, session=session) == []
    assert set(ran.values()) == {1}


def test_packages_that_threads_cannot_import_at_once_are_there_before_jobs_run_side_by_side(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "tabnanny", raising=False)
    monkeypatch.setattr("engine.runs.job.LAZY", ("tabnanny",))
    found = {}
    for name in ("answers", "students/left", "students/right"):
        behaviour[name] = lambda context: found.update({context.job.name: "tabnanny" in sys.modules})
    drive(tmp_path)
    assert found == {"answers": False, "students/left": True, "students/right": True}


def small(context: JobContext) -> bool:
    return behaviour.get("small", True)


def test_cluster_starts_before_the_first_job_that_needs_it(tmp_path):
    events: list[str] = []
    here = [replace(job, in_process=f"{__name__}:small") for job in LINE[:2]]

    @contextmanager
    def session():
        yield lambda: events.append("cluster")

    def note(context):
        events.append(context.job.name)

    behaviour.update(dict.fromkeys((job.name for job in LINE), note))
    drive(tmp_path / "a", jobs=[*here, *LINE[2:]], session=session)
    assert events[:3] == ["seeds", "answers", "cluster"]
    events.clear()
    drive(tmp_path / "b", jobs=here, session=session)
    assert events == ["seeds", "answers"]
    events.clear()
    behaviour["small"] = False
    drive(tmp_path / "c", jobs=here, session=session)
    assert events[0] == "cluster"


def begin(context: JobContext, beside) -> str:
    ran["begun"] += 1
    behaviour["beside"] = beside, ran["students/left"]
    return "what was begun"


@pytest.mark.parametrize("done", [2, 3])
def test_a_job_is_begun_once_only_optional_artifacts_are_missing(tmp_path, done):
    """Beside the jobs that make them, and once; where it is all that is left nothing is begun."""
    got = []
    behaviour["last"] = lambda context: got.append(context.begun)
    line = (*LINE[:4], replace(LAST, needs=("seeds", *LAST.needs), optional=LAST.needs, begin=f"{__name__}:begin"))
    drive(tmp_path, jobs=line[:done])
    drive(tmp_path, jobs=line)
    left = {"students/left", "students/right"} - {job.name for job in line[:done]}
    assert behaviour["beside"] == (left, done - 2) and ran["begun"] == 1 and got == ["what was begun"]
    Folder(str(tmp_path)).remove("last")
    drive(tmp_path, jobs=line)
    assert ran["begun"] == 1 and got == ["what was begun", None]


def test_a_job_is_not_begun_before_what_it_cannot_do_without(tmp_path):
    last = replace(LAST, needs=("answers", *LAST.needs), optional=LAST.needs, begin=f"{__name__}:begin")
    behaviour["answers"] = lambda context: ran.update(early=ran["begun"])
    drive(tmp_path, jobs=(*LINE[:4], last))
    assert (ran["early"], ran["begun"]) == (0, 1)


def test_nothing_is_begun_beside_jobs_that_need_no_cluster(tmp_path):
    """What is begun needs it."""
    here = [replace(job, in_process=f"{__name__}:small") for job in LINE[:4]]
    drive(tmp_path, jobs=(*here, replace(LAST, optional=LAST.needs, begin=f"{__name__}:begin")))
    assert ran["last"] == 1 and not ran["begun"]


def test_line_half_done_runs_only_the_rest(tmp_path):
    drive(tmp_path, jobs=LINE[:2])
    assert drive(tmp_path) == ["students/left", "students/right", "last"]
    assert ran["seeds"] == ran["answers"] == 1


def test_line_changed_value_is_refused_and_named_before_anything_runs(tmp_path):
    drive(tmp_path, jobs=LINE[:3])
    with pytest.raises(
        RecipeMismatch, match=r"answers was finished under another recipe:\n +teachers\.models\.0\.sampling\.n: 1 -> 2"
    ):
        drive(tmp_path, n=2)
    assert "students/right" not in ran


def test_line_changed_source_file_is_refused_and_named(tmp_path):
    drive(tmp_path)
    sources["a.jsonl"] = "hash of another a"
    with pytest.raises(RecipeMismatch, match=r"sources\.a\.jsonl: .hash of a. -> .hash of another a."):
        drive(tmp_path)


def test_line_value_that_no_job_reads_changes_nothing(tmp_path):
    drive(tmp_path, jobs=LINE[:1])
    assert drive(tmp_path, jobs=LINE[:1], n=2) == []


def test_line_key_that_an_older_recipe_lacks_counts_as_its_default(tmp_path):
    drive(tmp_path, jobs=LINE[:2])
    path = tmp_path / "answers" / "record.json"
    record = json.loads(path.read_text())
    del record["recipe"]["teachers"]["models"][0]["sampling"]["n"], record["recipe"]["teachers"]["max_calls"]
    path.write_text(json.dumps(record))
    assert drive(tmp_path, jobs=LINE[:2]) == []
    with pytest.raises(RecipeMismatch, match=r"answers was finished .*\n +teachers\.models\.0\.sampling\.n: 1 -> 2"):
        drive(tmp_path, jobs=LINE[:2], n=2)


def test_line_input_rebuilt_with_other_rows_makes_what_read_it_stale(tmp_path):
    drive(tmp_path)
    Folder(str(tmp_path)).remove("seeds")
    with pytest.raises(RecipeMismatch, match=r"answers was finished under another recipe:\n +inputs\.seeds"):
        drive(tmp_path, take=5)


def test_line_input_rebuilt_with_equal_rows_keeps_what_read_it(tmp_path):
    drive(tmp_path)
    Folder(str(tmp_path)).remove("seeds")
    assert drive(tmp_path) == ["seeds"]


def test_what_is_derived_from_an_input_that_is_made_again_is_made_again_for_the_job_that_reads_it(tmp_path):
    tokens = Job("tokens", needs=("answers",), reads=(), run=HERE)
    student = Job("student", needs=("answers", "tokens"), derived=("tokens",), reads=("students.s",), run=HERE)
    line = [SEEDS, ANSWERS, tokens, student]
    drive(tmp_path, jobs=line)
    assert drive(tmp_path, jobs=line) == []
    for name in ("answers", "student"):
        Folder(str(tmp_path)).remove(name)
    assert drive(tmp_path, jobs=line) == ["answers", "tokens", "student"]
    Folder(str(tmp_path)).remove("answers")
    assert drive(tmp_path, jobs=line) == ["answers"]  # with equal rows: the student and its tokens stay


def test_job_missing_input_says_which_job_makes_it(tmp_path):
    with pytest.raises(MissingArtifact, match=r"last needs .*/students/left, .* Run the job 'students/left' first"):
        drive(tmp_path, jobs=[LAST])


def test_job_that_crashes_leaves_no_record_and_runs_again(tmp_path):
    behaviour["answers"] = fail
    with pytest.raises(InputError, match="answers broke") as caught:
        drive(tmp_path)
    assert caught.value.__notes__ == ["This ended the job answers."]
    assert load_artifact(Folder(f"{tmp_path}/answers")) is None
    assert left_over(tmp_path) == []
    behaviour.clear()
    assert drive(tmp_path) == ["answers", "students/left", "students/right", "last"]
    assert ran["seeds"] == 1


def test_job_killed_halfway_is_cleared_by_the_next_attempt(tmp_path):
    drive(tmp_path, jobs=LINE[:1])
    writer = ArtifactWriter(Folder(f"{tmp_path}/answers"))
    writer.folder.write("half.txt", b"half")  # what kill -9 leaves
    drive(tmp_path)
    assert left_over(tmp_path) == []
    artifact = load_artifact(Folder(f"{tmp_path}/answers"))
    assert artifact and artifact.record.files == ()


def test_job_that_loses_a_row_is_refused(tmp_path):
    lossy = Job("lossy", needs=(), reads=("gate",), run=f"{__name__}:lose")
    with pytest.raises(ConservationError, match="3 rows in, 2 rows out"):
        drive(tmp_path, jobs=[lossy])
    assert load_artifact(Folder(f"{tmp_path}/lossy")) is None


def lose(context: JobContext) -> RowCounts:
    return RowCounts(3, {"kept": 1, "dropped": 1})


def test_wave_failing_job_voids_no_other(tmp_path):
    behaviour["students/left"] = fail
    with pytest.raises(InputError, match="students/left broke"):
        drive(tmp_path)
    assert load_artifact(Folder(f"{tmp_path}/students/right"))
    assert load_artifact(Folder(f"{tmp_path}/students/left")) is None
    assert "last" not in ran
    behaviour.clear()
    assert drive(tmp_path) == ["students/left", "last"]


def without_students(folder, **changes):
    last = replace(LAST, optional=LAST.needs)
    return drive(folder, jobs=(SEEDS, ANSWERS, LEFT, RIGHT, last), **changes)


def test_a_job_runs_without_an_optional_input_and_again_when_it_is_there(tmp_path):
    behaviour["students/left"] = fail
    for attempts in (1, 2):
        with pytest.raises(InputError, match="students/left broke"):
            without_students(tmp_path)
        assert load_artifact(Folder(f"{tmp_path}/last")).record.inputs.keys() == {"students/right"}
        assert (ran["students/left"], ran["students/right"], ran["last"]) == (attempts, 1, attempts)
    behaviour.clear()
    assert without_students(tmp_path) == ["students/left", "last"]
    assert load_artifact(Folder(f"{tmp_path}/last")).record.inputs.keys() == set(LAST.needs)
    assert without_students(tmp_path) == []


def test_a_job_whose_optional_inputs_all_fail_does_not_run(tmp_path):
    behaviour.update({"students/left": fail, "students/right": fail})
    with pytest.raises(InputError, match="broke"):
        without_students(tmp_path)
    assert "last" not in ran


def test_wave_two_failing_jobs_are_both_named(tmp_path):
    behaviour.update({"students/left": fail, "students/right": fail})
    with pytest.raises(InputError) as caught:
        drive(tmp_path)
    said = "\n".join([str(caught.value), *caught.value.__notes__])
    assert "students/left broke" in said and "students/right broke" in said


def test_wave_jobs_are_at_work_at_the_same_time(tmp_path):
    both = threading.Barrier(2, timeout=30)
    behaviour.update({name: lambda context: both.wait() for name in ("students/left", "students/right")})
    assert "last" in drive(tmp_path)


def test_interrupt_of_one_job_leaves_nothing_half_written(tmp_path):
    def stop(context):
        context.writer.folder.write("half.txt", b"half")
        raise KeyboardInterrupt

    behaviour["answers"] = stop
    with pytest.raises(KeyboardInterrupt):
        drive(tmp_path)
    assert left_over(tmp_path) == []
    assert load_artifact(Folder(f"{tmp_path}/answers")) is None


def test_interrupt_of_a_wave_ends_the_session_before_waiting_for_its_jobs(tmp_path):
    ended, gave_up = threading.Event(), threading.Event()

    @contextmanager
    def session():
        try:
            yield
        finally:
            ended.set()

    def work(context):
        os.kill(os.getpid(), signal.SIGINT)
        gave_up.set() if not ended.wait(30) else None
        raise InputError("the session is gone")

    behaviour.update({"students/left": work, "students/right": lambda context: ended.wait(30) or gave_up.set()})
    with pytest.raises(KeyboardInterrupt):
        drive(tmp_path, session=session)
    assert not gave_up.is_set()


def test_line_tells_start_and_end_of_each_job_with_its_rows(tmp_path):
    lines = []
    drive(tmp_path, jobs=LINE[:1], lines=lines)
    assert lines[0] == "seeds: started"
    assert lines[1].startswith("seeds: ") and lines[1].endswith("3 kept")


def test_line_on_an_object_store_resumes_too():
    folder = "memory://runner/run"
    behaviour["answers"] = fail
    with pytest.raises(InputError):
        drive(folder)
    assert load_artifact(Folder(f"{folder}/answers")) is None
    behaviour.clear()
    assert drive(folder) == ["answers", "students/left", "students/right", "last"]
    assert drive(folder) == []


def test_run_job_twice_replaces_the_artifact_whole(tmp_path):
    drive(tmp_path, jobs=LINE[:1])
    first = load_artifact(Folder(f"{tmp_path}/seeds"))
    contract = Contract.model_validate(CONTRACT)
    run = Folder(str(tmp_path))
    context = JobContext(SEEDS, contract, Profile(name="toy"), root="", models="", run=run, writer=ArtifactWriter(run / "seeds"))
    again = run_job(context)
    assert first and again.fingerprint == first.fingerprint
    assert left_over(tmp_path) == []


def test_up_to_a_job_is_that_job_and_what_it_needs():
    assert up_to(LINE, "students/right") == (SEEDS, ANSWERS, RIGHT)
    assert up_to(LINE, "last") == LINE


def test_up_to_an_unknown_job_names_those_there_are():
    with pytest.raises(InputError, match="found 'dataste', expected one of seeds, answers, students/left"):
        up_to(LINE, "dataste")


@pytest.mark.parametrize(("shared", "paid"), [(None, "run/ledger"), ("s3://bucket/paid", "s3://bucket/paid")])
def test_paid_work_lies_in_the_run_unless_the_profile_names_a_shared_place(tmp_path, shared, paid):
    run = Folder(str(tmp_path / "run"))
    profile = Profile(name="toy", ledger=shared)
    context = JobContext(
        SEEDS, Contract.model_validate(CONTRACT), profile, root="", models="", run=run, writer=ArtifactWriter(run / "seeds")
    )
    assert context.paid.url == (paid if shared else str(tmp_path / paid))
    assert context.ledger.url == str(tmp_path / "run/ledger")  # what is the run's own stays with it
