"""status, report, sql and trace over a finished run, on a disk and behind a URL."""

import json
import re
from dataclasses import replace

import pytest
from made_run import made_run, workspace
from typer.testing import CliRunner

from engine.contract.exports import Gguf
from engine.records.export import ExportMetrics, ExportProbe
from engine.runs.recipe import identify
from engine.storage.artifact import RowCounts
from engine.storage.folder import Folder
from jobs.cli import app
from jobs.pipeline import pipeline


@pytest.fixture(scope="module", params=["local", "memory"])
def run(request, tmp_path_factory):
    seeds = tmp_path_factory.mktemp("seeds")
    folder = str(seeds / "runs" / "toy") if request.param == "local" else f"memory://reading/{seeds.name}"
    made_run(folder, seeds)
    return folder


def ask(*words):
    """What a command prints, which must end well."""
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refuse(*words):
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    return result.stderr


def test_status_says_rows_in_and_out_of_every_job(run):
    text = ask("status", run)
    assert re.search(r"prompts +finished +\d+ +4 +2 prompts \+ 1 holdout \+ 1 exact_copy +all rows accounted for", text)
    assert re.search(r"candidates +finished +\d+ +3 +2 train \+ 1 contrast +all rows accounted for", text)


def test_status_json_has_the_documented_keys(run):
    found = json.loads(ask("status", run, "--json"))
    assert [job["name"] for job in found["jobs"]] == [
        "prompts", "candidates", "dataset", "students/small", "students/large", "reports",
    ]  # fmt: skip
    [candidates] = [job for job in found["jobs"] if job["name"] == "candidates"]
    assert candidates.pop("seconds") >= 0
    assert candidates == {
        "name": "candidates", "state": "finished", "rows_in": 3, "rows_out": {"train": 2, "contrast": 1}, "conserved": True,
        "warnings": [],
    }  # fmt: skip
    assert set(found) == {"run", "contract", "created", "jobs", "spending", "failures", "judge", "seeds", "rounds"}
    assert found["judge"] is None
    assert found["spending"] == {
        "currency": "EUR", "cap": None, "paid": 48, "in_rows": 36,
        "teachers": [{
            "teacher": "t", "answers": 3, "tokens_in": 30, "tokens_out": 6, "money": 0.0105, "accepted": 2, "picked": 2,
            "budget_exhausted": 0, "tokens_per_accepted": 18.0, "money_per_accepted": 0.00525,
        }],
        "judge": {"cap": None, "paid": 0},
    }  # fmt: skip


def test_status_says_what_an_accepted_answer_cost(run):
    text = ask("status", run)
    assert re.search(r"teacher +tokens in +tokens out +accepted +picked +tokens each +money EUR +money EUR each\n", text)
    assert re.search(r"t +30 +6 +2 +2 +18 +0\.0105 +0\.00525\nteachers: 48 tokens paid$", text.strip())


def test_status_of_a_run_that_the_cap_stopped_says_how_to_go_on(tmp_path):
    folder = made_run(str(tmp_path / "run"), tmp_path).folder
    record = json.loads(folder.read("candidates/record.json"))
    record["metrics"]["teachers"]["t"]["budget_exhausted"] = 7
    folder.write("candidates/record.json", json.dumps(record).encode())
    kept = json.loads(folder.read("run.json"))
    kept["contract"]["budget"]["teacher_tokens"] = 40
    folder.write("run.json", json.dumps(kept).encode())
    text = ask("status", str(folder))
    assert "teachers: 48 tokens paid of 40 that budget.teacher_tokens allows" in text
    assert "The cap stopped the teachers: 7 answers were not asked for. To continue, raise it, delete" in text


def test_status_says_why_a_judge_decided_nothing(tmp_path):
    folder = made_run(str(tmp_path / "run"), tmp_path).folder
    record = json.loads(folder.read("candidates/record.json"))
    record["metrics"]["judge"] = {
        "name": "j",
        "decides": False,
        "bound_to": {"judge": "f" * 32},
        "why": ["its kappa is 0.10", "its bias `position` is 0.50"],
        "audit": [],
    }
    folder.write("candidates/record.json", json.dumps(record).encode())
    assert json.loads(ask("status", str(folder), "--json"))["judge"]["decides"] is False
    assert ask("status", str(folder)).endswith("j annotates, it decides nothing: its kappa is 0.10; its bias `position` is 0.50.\n")


def test_status_of_a_record_that_lost_a_row_says_so(tmp_path):
    folder = made_run(str(tmp_path / "run"), tmp_path).folder
    record = json.loads(folder.read("candidates/record.json"))
    record["row_counts"]["rows_out"]["train"] = 1
    folder.write("candidates/record.json", json.dumps(record).encode())
    jobs = json.loads(ask("status", str(folder), "--json"))["jobs"]
    assert [job["name"] for job in jobs if job["conserved"] is False] == ["candidates"]
    assert "ROWS LOST" in ask("status", str(folder))


def test_status_of_a_run_in_progress_tells_begun_from_missing(tmp_path):
    folder = made_run(str(tmp_path / "run"), tmp_path).folder
    folder.remove("dataset")
    folder.remove("reports")
    (folder / ".building-dataset").write("picked/part.parquet", b"half")
    states = {job["name"]: job["state"] for job in json.loads(ask("status", str(folder), "--json"))["jobs"]}
    assert states["dataset"] == "unfinished" and states["reports"] == "missing" and states["prompts"] == "finished"


def test_status_of_no_run_says_how_to_start_one(tmp_path):
    assert "no run is here" in refuse("status", str(tmp_path))


def test_report_shows_models_gate_page_and_what_comes_next(run):
    text = ask("report", run)
    assert re.search(r"small +student +10\.0 M \(1/2\.0\) +0\.750 \(0\.500 to 0\.900\) +- +0\.950 \(0\.500 to 0\.900\) +-", text)
    assert re.search(r"t +teacher .* 123\n", text)
    assert "gate     refuses large\n           exact_match: found 0.400, wanted at least 0.5\n" in text
    assert "gate     passed by small" in text
    assert f"{run}/reports/index.html" in text and f"rayleigh promote {run}" in text


def test_report_json_is_the_reports_own_numbers(run):
    assert json.loads(ask("report", run, "--json")) == json.loads(Folder(run).read("reports/report.json"))


def test_report_of_an_unfinished_run_says_what_to_do(tmp_path):
    folder = made_run(str(tmp_path / "run"), tmp_path).folder
    folder.remove("reports")
    assert "has no report yet" in refuse("report", str(folder))


def test_sql_answers_from_every_table_of_the_run(run):
    assert ask("sql", run, "select pool, count(*) as n from candidates group by 1 order by 1").split() == [
        "pool", "n", "--------", "-", "contrast", "1", "train", "2",
    ]  # fmt: skip
    tables = ask("sql", run, "select distinct table_name as t from duckdb_columns() order by 1", "--json")
    found = {json.loads(line)["t"] for line in tables.splitlines()}
    assert {"prompts", "holdout", "dropped", "rejects", "candidates", "picked", "examples", "steps", "predictions"} <= found


def test_sql_table_without_rows_has_its_columns(run):
    assert json.loads(ask("sql", run, "select count(reason) as n from rejects", "--json")) == {"n": 0}


def test_sql_steps_holds_all_students(run):
    lines = ask("sql", run, "select student, min(loss) as best from steps group by 1 order by 1", "--json").splitlines()
    assert [json.loads(line) for line in lines] == [{"student": "large", "best": 0.5}, {"student": "small", "best": 0.5}]


def test_sql_shows_a_hundred_rows_and_says_that_there_are_more(run):
    many = "select * from range(250)"
    text = ask("sql", run, many)
    assert "\n99\n" in text.replace(" ", "") and "\n100\n" not in text.replace(" ", "")
    assert "the first 100 rows" in text
    assert len(ask("sql", run, many, "--json").splitlines()) == 250


def test_sql_unknown_table_names_those_that_are_there(run):
    error = refuse("sql", run, "select * from answers")
    assert "answers" in error and "candidates, dropped, examples, holdout, picked, predictions, prompts, rejects, steps" in error


@pytest.mark.parametrize(
    "query",
    [
        "drop table prompts",
        "insert into prompts select * from prompts",
        "create table t as select 1",
        "copy prompts to 'stolen.csv'",
        "attach 'other.db'",
        "set enable_external_access = true",
        "select 1; drop view prompts",
        "select * from read_csv('/etc/passwd')",
        "select * from '/etc/passwd'",
        "",
    ],
)
def test_sql_that_does_more_than_read_is_refused(run, query):
    assert refuse("sql", run, query).startswith("InputError: sql: ")


def test_sql_mistake_shows_where(run):
    assert 'syntax error at or near "selec"' in refuse("sql", run, "selec 1")


def test_trace_answer_leads_to_the_line_of_its_file(run):
    found = json.loads(ask("trace", run, "eeee5555", "--json"))
    assert found["kind"] == "answer"
    assert found["source"] == {"source": "seeds.jsonl", "line": 7, "licence": "CC0-1.0"}
    assert (found["candidate"]["answer"], found["candidate"]["pool"]) == ("2", "train")
    assert (found["example"]["target"], found["example"]["split"]) == ("2", "train")
    assert [record["job"] for record in found["records"]] == ["dataset", "candidates", "prompts"]
    assert all(len(record["fingerprint"]) == 32 for record in found["records"])


def test_trace_answer_that_was_dropped_says_why(run):
    found = json.loads(ask("trace", run, "eeee5566", "--json"))
    assert found["example"] is None
    assert found["curation"]["dropped_by"] == "pool"
    assert found["candidate"]["reasons"] == ["ungrounded"]


def test_trace_prompt_lists_its_answers(run):
    found = json.loads(ask("trace", run, "aaaa11", "--json"))
    assert (found["kind"], found["prompt"]["prompt_id"]) == ("prompt", "aaaa1111")
    assert [answer["answer_id"] for answer in found["prompt"]["answers"]] == ["eeee5555", "eeee5566"]


@pytest.mark.parametrize(("wanted", "place"), [("cccc3333", "holdout prompt"), ("dddd4444", "dropped prompt")])
def test_trace_prompt_says_where_it_ended(run, wanted, place):
    assert json.loads(ask("trace", run, wanted, "--json"))["prompt"]["place"] == place


@pytest.mark.parametrize("wanted", ["ffff6666", "bbbb2222"])
def test_trace_of_a_synthetic_prompt_leads_on_to_its_parent(run, wanted):
    parent = json.loads(ask("trace", run, wanted, "--json"))["parent"]
    assert (parent["prompt"]["prompt_id"], parent["prompt"]["text"]) == ("aaaa1111", "two apples")
    assert parent["source"] == {"source": "seeds.jsonl", "line": 7, "licence": "CC0-1.0"}


def test_trace_student_shows_what_it_learnt_down_to_the_source(run):
    found = json.loads(ask("trace", run, "small", "--json"))
    assert found["student"]["parameters"] == 10
    assert found["student"]["sources"] == [{"source": "seeds.jsonl", "examples": 2}]
    assert found["examples"][0]["source"]["line"] == 7
    assert [record["job"] for record in found["records"]] == ["students/small", "dataset", "candidates", "prompts"]


def export(folder, student):
    """A finished run in `folder` whose student `small` has an export, made of the training with the fingerprint `student`."""
    work = made_run(str(folder / "run"), folder)
    small, large = work.contract.students
    small = small.model_copy(update={"exports": (Gguf(type="gguf"),)})
    work = replace(work, contract=work.contract.model_copy(update={"students": (small, large)}))
    work.save()
    [job] = [job for job in pipeline(work.contract) if job.name == "exports/small/q8_0"]
    context = work.context(job, log=lambda text: None, progress=lambda text: None)
    context.writer.clear()
    context.writer.metrics = ExportMetrics(
        deployment="small.q8_0", type="gguf", student=student or context.artifact("students/small").fingerprint, weight_bytes=5,
        student_weight_bytes=10, tools={}, seconds=1.0, probe=ExportProbe(examples=1, tokens=2, agreement=1.0, wanted=0.9),
    )  # fmt: skip
    context.writer.finish(identify(context), RowCounts(1, {"exported": 1}))
    return str(work.folder)


def test_trace_export_leads_to_its_student_and_on(tmp_path):
    run = export(tmp_path, "")
    student = json.loads(ask("trace", run, "small", "--json"))
    found = json.loads(ask("trace", run, "small.q8_0", "--json"))
    assert student["student"]["exports"] == ["small.q8_0"] and student["export"] is None
    assert (found["export"]["deployment"], found["export"]["weight_bytes"]) == ("small.q8_0", 5)
    assert (found["student"], found["examples"]) == (student["student"], student["examples"])
    assert [record["job"] for record in found["records"]] == ["exports/small/q8_0", *(each["job"] for each in student["records"])]
    assert "Students and exports: small, small.q8_0, large." in refuse("trace", run, "small.q4_k_m")


def test_trace_export_of_an_earlier_training_is_refused(tmp_path):
    assert "small.q8_0: was made of another training of small" in refuse("trace", export(tmp_path, "0" * 32), "small.q8_0")


def test_trace_prints_a_tree(run):
    lines = ask("trace", run, "eeee5566").splitlines()
    assert "candidate" in lines and "  pool: contrast" in lines
    assert any(line.startswith("    check grounded, passed False") for line in lines)
    assert lines.index("candidate") < lines.index("prompt") < lines.index("source") < lines.index("records")


def test_trace_prefix_of_several_names_them(run):
    assert "eeee5555, eeee5566" in refuse("trace", run, "eeee55")


def test_trace_unknown_id_names_the_nearest(run):
    assert "Nearest ids: eeee5555" in refuse("trace", run, "eeee5556")


def test_trace_too_short_id_is_refused(run):
    assert "at least 6 characters" in refuse("trace", run, "eeee")


def test_reading_before_any_job_has_finished_says_so(tmp_path):
    work = workspace(str(tmp_path / "run"), tmp_path)
    work.save()
    assert "no job has finished yet" in refuse("sql", str(work.folder), "select 1")


def test_run_json_of_another_version_is_told(tmp_path):
    Folder(str(tmp_path)).write("run.json", b'{"contract": {}}')
    assert "cannot be read by this version" in refuse("status", str(tmp_path))
