"""A run that schema version 3 finished: it opens with all commands, and no job of it has to run again."""

import json

import pytest
from typer.testing import CliRunner

from engine.contract.load import load_contract
from engine.errors import ContractError, RecipeMismatch
from engine.rows import CANDIDATE, EXAMPLE, HOLDOUT, PICKED, PREDICTION, PREFERENCE, PROMPT, STEP
from engine.runs.job import is_finished
from engine.storage.artifact import load_artifact
from jobs import places, workspace
from jobs.cli import app
from jobs.pipeline import pipeline
from tests.older_run import unpack

JOBS = ["prompts", "candidates", "dataset", "students/s", "reports"]
TABLES = {
    "prompts": PROMPT, "holdout": HOLDOUT, "candidates": CANDIDATE, "picked": PICKED, "examples": EXAMPLE,
    "preferences": PREFERENCE, "predictions": PREDICTION, "steps": STEP,
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return unpack(tmp_path_factory.mktemp("older"))


def ask(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def rows(root, query):
    return [json.loads(line) for line in ask("sql", root / "run", query, "--json").splitlines()]


def finished(root, *changes):
    work = workspace.create(str(root / "today.yaml"), str(root / "run"), profile=str(root / "profile.yaml"), changes=changes)
    return {job.name: is_finished(work.context(job, log=print, progress=print)) for job in pipeline(work.contract)}


def test_status_reads_jobs_and_spending(root):
    status = json.loads(ask("status", root / "run", "--json"))
    assert [(job["name"], job["state"], job["conserved"]) for job in status["jobs"]] == [(name, "finished", True) for name in JOBS]
    assert status["spending"]["paid"] == 4336 and status["spending"]["judge"]["paid"] == 9417
    assert {teacher["teacher"]: teacher["accepted"] for teacher in status["spending"]["teachers"]} == {"free": 0, "tiny": 7}
    assert "first+second annotates" not in ask("status", root / "run") and status["judge"]["decides"]


@pytest.mark.parametrize("table", TABLES)
def test_sql_shows_the_columns_of_today(root, table):
    [found] = rows(root, f"select count(*) as n, count(distinct columns(*)::varchar) from {table}")
    assert found["n"] > 0
    names = [row["column_name"] for row in rows(root, f"select column_name from (describe {table})")]
    assert names == TABLES[table].names


def test_sql_shows_the_values_of_today(root):
    [found] = rows(root, "select list_sort(list_distinct(flatten(list(reasons)))) as tags from candidates")
    assert {"rule:endless", "accepted", "off_choice"} <= set(found["tags"])
    assert {row["finish_reason"] for row in rows(root, "select distinct finish_reason from candidates")} == {"stop", "length"}


def test_trace_leads_from_the_student_to_the_source(root):
    student = json.loads(ask("trace", root / "run", "s", "--json"))
    assert [record["job"] for record in student["records"]] == ["students/s", "dataset", "candidates", "prompts"]
    learnt = next(example for example in student["examples"] if example["candidate"]["pool"] == "train")
    answer, prompt = learnt["candidate"], learnt["prompt"]["prompt_id"]
    assert (answer["finish_reason"], learnt["example"]["split"]) == ("stop", "train")
    assert json.loads(ask("trace", root / "run", answer["answer_id"], "--json"))["prompt"]["prompt_id"] == prompt
    assert answer["answer_id"] in ask("trace", root / "run", prompt)


def test_report_shows_the_gate(root):
    assert "gate     passed by s" in ask("report", root / "run")
    assert json.loads(ask("report", root / "run", "--json"))["gate"]["passing"] == ["s"]


def test_every_job_is_finished(root):
    assert finished(root) == {**dict.fromkeys(JOBS, True), "tokens": False}  # which is made only for a student that is trained


def test_run_with_the_contract_of_the_folder_does_nothing(root):
    before = (root / "run" / "run.json").read_bytes()
    assert "Nothing to do" in ask("run", root / "today.yaml", root / "run", "--profile", root / "profile.yaml")
    assert (root / "run" / "run.json").read_bytes() == before


def test_changed_value_is_still_refused_and_has_the_name_of_today(root):
    with pytest.raises(RecipeMismatch, match=r"judges\.pools\.rules\.0\.when\.finish_reason\.0: .length. -> .too_long."):
        finished(root, "judges.pools.rules.0.when.finish_reason=[too_long]")
    with pytest.raises(RecipeMismatch, match=r"students\.s\.curriculum: .confidence_tier. -> .difficulty."):
        finished(root, "students.0.curriculum=difficulty")


def test_a_finished_student_stays_current_with_other_workers(root):
    changed = finished(root, "students.0.workers=2", "students.0.zero=3", "students.0.micro_batch_size=1")
    assert changed["students/s"] and not changed["tokens"]


def test_older_keys_in_a_contract_are_errors_that_name_the_new_ones(root):
    with pytest.raises(ContractError) as caught:
        load_contract(root / "contract.yaml")
    assert "judges.pools.rules.0.when.ending: was renamed to finish_reason." in str(caught.value)
    assert "judges.pools.rules.1.when.disagreement: was renamed to rubric_spread." in str(caught.value)
    assert "students.0.curriculum: the value tier was renamed to confidence_tier." in str(caught.value)


def test_fingerprints_stay(root):
    names = {"prompts", "candidates", "dataset"}
    artifacts = {name: load_artifact(places.run_folder(str(root / "run")) / name) for name in names}
    reports = load_artifact(places.run_folder(str(root / "run")) / "reports")
    assert reports and {name: artifact.fingerprint for name, artifact in artifacts.items() if artifact} == {
        name: reports.record.inputs[name] for name in names
    }
