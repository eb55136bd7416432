"""rayleigh sql over several runs, their registry and records of requests; files, the database, and every question of views.sql."""

import csv
import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from threshold_runs import CONFIDENCES, threshold_run
from typer.testing import CliRunner

from engine.records.record import Identity
from engine.release import learnt
from engine.release.registry import Ground, Package, Registry
from engine.rows import EXAMPLE, PROMPT, from_rows
from engine.serving.record_files import SHADOW_FOLDER, RecordFiles
from engine.serving.schemas import REQUEST, SHADOW
from engine.storage.artifact import ArtifactWriter, RowCounts, load_artifact
from engine.storage.folder import Folder
from jobs.cli import app
from jobs.commands.sql import Views
from jobs.commands.sql_questions import questions
from jobs.steps import labels


def ask(*words):
    result = CliRunner().invoke(app, ["sql", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def rows(*words):
    return [json.loads(line) for line in ask(*words, "--json").splitlines()]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two runs with labels, the registry beside them with a release, and a folder with the requests of two deployments."""
    root = tmp_path_factory.mktemp("sql")
    works = [threshold_run(str(root / "runs" / name), root / "seeds", each) for name, each in (("low", 0.3), ("high", 0.6))]
    kinds = [{"answer_id": f"a{number:04x}0", "label": ("right", "wrong")[number % 2], "correction": None} for number in range(8)]
    labels.write(works[0].folder, {row["answer_id"]: row for row in kinds})
    run = works[0].folder
    student, dataset, prompts = (load_artifact(run / job) for job in ("students/small", "dataset", "prompts"))
    assert student and dataset and prompts
    kept = learnt.learnt(dataset.read("examples", EXAMPLE), prompts.read("prompts", PROMPT))
    package = Package("small", student.fingerprint, {learnt.FILE: learnt.write(kept), "card.md": "card"})
    Registry(Folder(str(root / "runs" / "registry")), "toy").promote(student, package, Ground("pass", "prove"))
    files = RecordFiles(root / "kept")
    about = {"unit": "count", "status": 200, "route": "student", "abstained": False, "finish_reason": "stop", "cost": 0.5}
    requests = [
        {**dict.fromkeys(REQUEST.names), **about, "request_id": f"{day}{number}{deployment}", "deployment": deployment,
         "time": datetime(2026, 1, day, 12, number, deployment == "new", tzinfo=UTC), "prompt_hash": f"{day}{number}",
         "latency_ms": 5.0, "answer": "other" if deployment == "new" and number < day else "same"}
        for day in (1, 2) for number in range(4) for deployment in ("old", "new")
    ]  # fmt: skip
    files.append(from_rows(requests, REQUEST))
    files.close()
    compared = RecordFiles(root / "kept" / SHADOW_FOLDER, schema=SHADOW)
    compared.append(from_rows([_shadow(day, number) for day in (1, 2) for number in range(4)], SHADOW))
    compared.close()
    return root


def _shadow(day, number):
    """A comparison of which the challenger fails the first `day` of four requests."""
    differs = number < day
    return dict.fromkeys(SHADOW.names) | {
        "request_id": f"{day}{number}", "time": datetime(2026, 1, day, 12, number, tzinfo=UTC), "unit": "count", "champion": "old",
        "challenger": "new", "reference": "teacher", "champion_answer": "same", "challenger_answer": "other" if differs else "same",
        "challenger_fault": "", "reference_fault": "", "agrees": not differs, "champion_agrees": True, "word": "keep watching",
        "pairs": 1,
    }  # fmt: skip


@pytest.fixture(scope="module")
def runs(world):
    return [str(world / "runs" / name) for name in ("low", "high")]


def test_tables_of_several_runs_have_the_column_run(runs):
    found = rows(*runs, "select run, count(*) as n, count(*) filter (pool = 'train') as t from candidates group by 1 order by 1")
    accepted = {threshold: sum(sure >= threshold for sure in CONFIDENCES.values()) for threshold in (0.6, 0.3)}
    assert found == [{"run": "high", "n": 80, "t": accepted[0.6]}, {"run": "low", "n": 80, "t": accepted[0.3]}]
    assert "run" not in rows(runs[0], "select * from candidates limit 1")[0]


def test_runs_and_registry_are_views(runs):
    found = rows(*runs, "select run, contract, jobs_finished, gate_by from runs order by run")
    assert found == [{"run": name, "contract": "toy", "jobs_finished": 6, "gate_by": "point"} for name in ("high", "low")]
    assert rows(*runs, "select contract, kind, student, word, is_champion from events") == [
        {"contract": "toy", "kind": "promote", "student": "small", "word": "pass", "is_champion": True}
    ]
    [champion] = rows(*runs, "select count(*) as n, any_value(student) as s from learnt")
    assert champion == {"n": rows(runs[0], "select count(distinct prompt_id) as n from examples")[0]["n"], "s": "small"}


def test_registry_can_be_named(runs, world, tmp_path):
    assert rows(runs[0], "select count(*) as n from events", "--registry", str(tmp_path / "none")) == [{"n": 0}]
    elsewhere = rows(runs[0], "select count(*) as n from events", "--registry", str(world / "runs" / "registry"))
    assert elsewhere == [{"n": 1}]


def test_records_of_requests_stand_beside_runs(runs, world):
    assert rows(runs[0], str(world / "kept"), "select run, count(*) as n from requests group by 1") == [{"run": "kept", "n": 16}]
    assert rows(runs[0], "select count(*) as n from requests") == [{"n": 0}]


def test_a_time_with_nanoseconds_is_text(runs):
    [row] = rows(*runs, "select timestamp_ns '2026-01-02 03:04:05.000000006' as at, date '2026-01-02' as day")
    assert row == {"at": "2026-01-02 03:04:05.000000006", "day": "2026-01-02"}


def test_describe_shows_the_documentation(runs):
    found = {row["column"]: row for row in rows(runs[0], "describe candidates")}
    assert (found["pool"]["column"], found["pool"]["type"]) == ("pool", "VARCHAR")
    assert "where the answer goes; one of `train`, `hard`" in found["pool"]["doc"]
    assert "nats" in found["logprob"]["doc"] and next(iter(found)) == "prompt_id"
    assert "decided" in {row["column"]: row["doc"] for row in rows(runs[0], "DESCRIBE runs;")}["gate_by"]


@pytest.mark.parametrize("name", questions())
def test_every_question_is_answered(runs, world, name):
    found = rows(*runs, str(world / "kept"), "--question", name)
    assert found, name
    assert questions()[name].text.endswith((".", "?")) and questions()[name].tables


def test_there_are_at_least_twelve_questions_and_they_are_listed():
    listed = ask("--questions")
    assert len(questions()) >= 12 and all(name in listed for name in questions())


def test_answers_of_questions_are_right(runs, world):
    accepted = sum(sure >= 0.3 for sure in CONFIDENCES.values())
    [low] = [row for row in rows(*runs, "--question", "accept_rate") if row["run"] == "low"]
    assert (low["answers"], low["accepted"], low["accept_rate"]) == (80, accepted, round(accepted / 80, 3))
    assert low["money_per_accepted"] == pytest.approx(low["money"] / accepted)
    slices = [row for row in rows(*runs, "--question", "accept_rate_by_slice") if row["run"] == "low"]
    spent = sum(row["money_per_accepted"] * row["accept_rate"] * row["answers"] for row in slices)
    assert spent == pytest.approx(low["money"], rel=0.01)
    flow = rows(runs[0], "--question", "drop_flow")
    assert {row["outcome"]: row["rows"] for row in flow if row["stage"] == "2 answered"} == {
        "train": accepted,
        "review": 80 - accepted,
    }
    [judged] = rows(runs[0], "--question", "judge_against_people")
    sure = {number: CONFIDENCES[number, 0] >= 0.3 for number in range(8)}
    assert judged["agreement"] == round(sum(sure[number] == (number % 2 == 0) for number in sure) / 8, 3)
    days = rows(str(world / "kept"), "--question", "agreement_over_time")
    assert [(row["champion"], row["challenger"], row["compared"], row["agreement"], row["champion_agreement"]) for row in days] == [
        ("old", "new", 4, 0.75, 1.0),
        ("old", "new", 4, 0.5, 1.0),
    ]
    differing = rows(str(world / "kept"), "--question", "shadow_disagreements")
    assert len(differing) == 3 and {row["challenger_answer"] for row in differing} == {"other"}
    [learnt_of] = [row for row in rows(runs[0], "--question", "release_learnt") if row["licence"] == "MIT"]
    assert (
        learnt_of["is_champion"]
        and learnt_of["prompts"]
        == rows(
            runs[0], "select count(distinct prompt_id) as n from examples join prompts using (prompt_id) where licence = 'MIT'"
        )[0]["n"]
    )


def test_unknown_question_names_the_nearest_and_missing_tables_are_named(runs, world):
    result = CliRunner().invoke(app, ["sql", runs[0], "--question", "accept_rates"])
    assert result.exit_code == 1 and "Did you mean accept_rate" in result.stderr
    result = CliRunner().invoke(app, ["sql", str(world / "kept"), "--question", "calibration"])
    assert result.exit_code == 1 and "reads predictions, which is not there yet" in result.stderr


def test_csv_markdown_and_parquet_hold_every_row(runs, tmp_path):
    query = "select answer_id, answer, reasons, confidence from candidates order by answer_id"
    expected = rows(runs[0], query)
    read = list(csv.DictReader(ask(runs[0], query, "--csv").splitlines()))
    assert len(read) == len(expected) == 80 and json.loads(read[0]["reasons"]) == expected[0]["reasons"]
    formula = ask(runs[0], "select '=1+1' as a, -1 as b, null as c", "--csv").splitlines()
    assert formula == ["a,b,c", "'=1+1,-1,"]
    table = ask(runs[0], query, "--markdown").splitlines()
    assert len(table) == 82 and all(line.count(" | ") == 3 for line in table[2:] if "\\|" not in line)
    assert not any("<script" in line for line in table)
    target = tmp_path / "out.parquet"
    assert "80 rows" in ask(runs[0], query, "--parquet", str(target))
    assert pq.read_table(target).to_pylist() == expected
    result = CliRunner().invoke(app, ["sql", runs[0], query, "--parquet", str(target)])
    assert result.exit_code == 1 and "exists already" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet"]


def test_query_that_fails_leaves_no_file(runs, tmp_path):
    result = CliRunner().invoke(app, ["sql", runs[0], "select nothing from nowhere", "--parquet", str(tmp_path / "out.parquet")])
    assert result.exit_code == 1 and list(tmp_path.iterdir()) == []


def test_database_is_read_only_documented_and_has_the_questions(runs, world, tmp_path):
    target = tmp_path / "out.duckdb"
    ask(*runs, str(world / "kept"), "--database", str(target))
    assert not target.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) and list(tmp_path.iterdir()) == [target]
    with duckdb.connect(str(target), read_only=True) as database:
        assert database.execute("select run, count(*) from candidates group by 1 order by 1").fetchall() == [
            ("high", 80),
            ("low", 80),
        ]
        [(text,)] = database.execute(
            "select comment from duckdb_columns() where table_name = 'candidates' and column_name = 'logprob'"
        ).fetchall()
        assert "nats" in text
        for name in questions():
            assert database.execute(f'select count(*) from "{name}"').fetchall()[0][0] > 0, name
    result = CliRunner().invoke(app, ["sql", runs[0], "--database", str(target)])
    assert result.exit_code == 1 and "exists already" in result.stderr


@pytest.mark.parametrize(
    "query", ["attach 'other.db'", "copy candidates to 'stolen.csv'", "select * from '/etc/passwd'", "drop view runs"]
)
def test_several_runs_are_guarded_as_one_is(runs, query):
    result = CliRunner().invoke(app, ["sql", *runs, query])
    assert result.exit_code == 1 and result.stderr.startswith("InputError: sql: ")


def test_two_forms_at_once_are_refused(runs):
    result = CliRunner().invoke(app, ["sql", runs[0], "select 1", "--csv", "--json"])
    assert result.exit_code == 1 and "expected one" in result.stderr


def test_run_without_a_query_is_wrong_usage(runs):
    result = CliRunner().invoke(app, ["sql", runs[0]])
    assert result.exit_code == 2 and "QUERY" in result.stderr


def test_column_docs_cover_the_tables():
    from jobs.commands.sql_docs import column_docs

    for table in ("prompts", "candidates", "picked", "examples", "predictions", "requests"):
        assert len(column_docs(table)) > 5, table


def test_table_of_a_job_has_precedence_over_a_view_of_its_name(tmp_path):
    work = threshold_run(str(tmp_path / "runs" / "one"), tmp_path, 0.3)
    old = load_artifact(work.folder / "dataset")
    assert old
    writer = ArtifactWriter(work.folder / "dataset")
    writer.clear()
    for name, schema in (("examples", EXAMPLE), ("picked", None)):
        if schema:
            writer.put(name, old.read(name, schema), schema)
    writer.put("models", from_rows([{"prompt_id": "x"}], PROMPT), PROMPT)
    writer.finish(Identity("dataset", old.record.recipe, old.record.inputs, old.record.fingerprint), RowCounts(1, {"picked": 1}))
    assert Views(str(work.folder)).rows("select prompt_id from models") == [{"prompt_id": "x"}]
    assert Path(work.folder.path).is_dir()
