"""The whole line through its door, the command: unbroken, killed in the middle, run twice, read, promoted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from engine.checks import TAGS
from engine.grading.routing import REASONS
from engine.rows import POOLS
from jobs.commands.sql import Views
from jobs.commands.sql_questions import questions
from jobs.view.conditions import Ask
from jobs.view.sources import Sources
from jobs.view.tables import PAGE
from tests.planted import by_hand
from tests.readers import require_open

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONTRACT = HERE / "tiny.yaml"
KILLED = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
pytestmark = [pytest.mark.timeout(3600), KILLED]  # the first test of a fixture waits for whole runs of the line
STUDENT = "students/xs"
DETERMINED = {"prompts": "prompts", "candidates": "candidates", "dataset": "picked"}  # job -> table


def command(*words):
    return [sys.executable, "-m", "jobs.cli", *map(str, words)]


def rayleigh(*words, timeout=1200):
    done = subprocess.run(command(*words), cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def start(run, *words):
    return subprocess.Popen(
        command("run", CONTRACT, run, "--profile", HERE / "profile.yaml", *words),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(run, *words):
    process = start(run, *words)
    said, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, said
    return said


def kill_when(run, pattern, *, before):
    """kill -9 the driver as soon as a file matching `pattern` lies in `run`; the job `before` must not be finished by then."""
    process = start(run)
    deadline = time.monotonic() + 900
    while not list(run.glob(pattern)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"no {pattern}"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (run / before / "record.json").exists()


def record(run, job):
    return json.loads((run / job / "record.json").read_text())


def losses(run):
    said = rayleigh("sql", run, "select step, split, loss from steps order by step, split", "--json")
    return [json.loads(line) for line in said.splitlines()]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    finish(run)
    return run


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A run whose driver was killed among the candidates, then while the student was trained, and that then went on."""
    run = tmp_path_factory.mktemp("runs") / "broken"
    kill_when(run, "ledger/answers/**/*.parquet", before="candidates")
    paid = {path: path.read_bytes() for path in run.glob("ledger/answers/**/*.parquet")}
    kill_when(run, "ledger/checkpoints/**/checkpoint_manager_snapshot.json", before=STUDENT)
    for path, data in paid.items():
        assert path.read_bytes() == data
    finish(run, "--until", STUDENT)
    return run


def test_line_loses_no_row(unbroken):
    jobs = json.loads(rayleigh("status", unbroken, "--json"))["jobs"]
    assert [job["name"] for job in jobs] == ["prompts", "candidates", "dataset", "tokens", STUDENT, "reports"]
    for job in jobs:
        assert job["state"] == "finished" and job["conserved"], job
        assert job["rows_in"] == sum(job["rows_out"].values()) > 0


def test_every_answer_is_in_one_pool_with_a_known_reason(unbroken):
    said = rayleigh("sql", unbroken, "select answer_id, pool, reasons, relation, parents from candidates", "--json")
    rows = [json.loads(line) for line in said.splitlines()]
    out = record(unbroken, "candidates")["row_counts"]["rows_out"]
    assert {pool: sum(row["pool"] == pool for row in rows) for pool in POOLS} == {pool: out[pool] for pool in POOLS}
    assert len({row["answer_id"] for row in rows}) == len(rows) == sum(out.values())
    assert all(row["reasons"] and set(row["reasons"]) <= {*REASONS, *TAGS[1:], "rule:hard"} for row in rows)
    page = (unbroken / "reports" / "index.html").read_text()
    assert f"exactly one pool: {len(rows)} of {len(rows)}" in page and "rows unaccounted for" not in page


def test_line_killed_and_run_again_ends_with_the_same_rows(unbroken, broken):
    for job, table in DETERMINED.items():
        assert record(broken, job)["tables"][table]["digest"] == record(unbroken, job)["tables"][table]["digest"], job


def test_student_killed_and_run_again_ends_with_the_same_losses(unbroken, broken):
    trained = record(broken, STUDENT)
    ends = [path.stat().st_mtime for path in broken.glob("ledger/checkpoints/**/checkpoint_2*/progress.json")]
    # The workers outlive a killed driver by some seconds, and may even end the training that they began: then that is read.
    assert trained["metrics"]["resumed_from"] or min(ends) - trained["metrics"]["seconds"] < trained["started"]
    assert losses(broken) == losses(unbroken)


def test_finished_line_does_nothing_again(unbroken):
    before = {path: path.stat().st_mtime_ns for path in unbroken.rglob("record.json")}
    assert "Nothing to do" in finish(unbroken)
    assert {path: path.stat().st_mtime_ns for path in unbroken.rglob("record.json")} == before


def test_changed_contract_is_refused_and_the_change_named(unbroken):
    words = command("run", CONTRACT, unbroken, "--set", "teachers.models.0.sampling.temperature=0.9")
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "temperature: 0.5 -> 0.9" in done.stderr


def test_every_question_of_views_sql_is_answered(unbroken):
    views = Views(str(unbroken), labelled=True)
    found = {name: views.rows(question.sql) for name, question in questions().items() if question.can_ask(views.names)}
    assert set(found) == set(questions())  # each has its tables, also those without a row
    for name in ("accept_rate", "accept_rate_by_slice", "drop_flow", "calibration", "students_by_size", "weak_slices", "licences"):
        assert found[name] and all(row["run"] == "unbroken" for row in found[name]), name


def test_every_table_is_shown_by_the_view(unbroken):
    sources = Sources(unbroken.parent)
    [run] = [run for run in sources.runs() if run.name == "unbroken"]
    opened = sources.open(run.key)
    for name, rows in opened.counts().items():
        table = opened.table(name)
        page = table.page(Ask(every=True))
        assert len(page.rows) == min(rows, PAGE) and all(table.row(key) for key, _ in page.rows[:2]), name
    [example] = [key for key, _ in opened.table("examples").page(Ask()).rows[:1]]
    assert "source" in opened.lineage({"example_id": example})
    sources.close()


def test_report_names_every_model_with_its_numbers(unbroken):
    report = json.loads(rayleigh("report", unbroken, "--json"))
    roles = {model["name"]: model["role"] for model in report["models"]}
    assert roles == {"smol": "teacher", "xs": "student", "rules": "baseline", "nearest": "baseline"}
    for model in report["models"]:
        exact = model["metrics"]["exact_match"]
        assert 0 <= exact["low"] <= exact["value"] <= exact["high"] <= 1


def test_judge_is_reported_as_its_labelled_items_show_it(unbroken):
    """The default judge, really asked: the numbers are those of its own marks, and a judge below the minimum decides nothing."""
    judge = json.loads(rayleigh("report", unbroken, "--json"))["judge"]
    [kept] = (unbroken / "ledger" / "judgements").glob("calibration-*.json")
    wanted = by_hand(json.loads(kept.read_text())["items"], judge["agreement"]["threshold"])
    assert {name: judge["agreement"][name]["value"] for name in wanted} == pytest.approx(wanted, abs=1e-6)
    probes = {one["probe"]: one["verdict"] for one in judge["audit"]}
    assert set(probes) == {"position", "padded", "shortened", "self_preference", "paraphrase", "rules", "batches", "runs"}
    assert "unmeasured" not in (probes["padded"], probes["shortened"], probes["paraphrase"])
    reached = wanted["kappa"] >= 0.4 and judge["agreement"]["auc"]["value"] >= 0.7
    assert judge["decides"] == (reached and "beyond" not in list(probes.values())[:5])
    assert json.loads(rayleigh("status", unbroken, "--json"))["judge"] == {name: judge[name] for name in ("name", "decides", "why")}
    said = rayleigh("sql", unbroken, "select distinct judge_decides from candidates where score is not null", "--json")
    assert [json.loads(line)["judge_decides"] for line in said.splitlines()] == [judge["decides"]]


def test_reported_exact_match_is_that_of_the_rows(unbroken):
    report = json.loads(rayleigh("report", unbroken, "--json"))
    said = rayleigh("sql", unbroken, "select model, avg(exact::int) as share from predictions group by 1", "--json")
    shares = {row["model"]: row["share"] for row in map(json.loads, said.splitlines())}
    assert shares == pytest.approx({model["name"]: model["metrics"]["exact_match"]["value"] for model in report["models"]})


def test_trace_walks_from_an_example_to_its_seed_line(unbroken):
    found = json.loads(rayleigh("sql", unbroken, "select example_id from examples order by 1 limit 1", "--json"))
    assert "train.jsonl" in rayleigh("trace", unbroken, found["example_id"])


def test_every_table_opens_in_every_reader_with_the_same_rows_splits_and_texts(unbroken):
    assert require_open(unbroken) >= 10


def test_data_contracts_hold(unbroken):
    found = json.loads(rayleigh("check-data", unbroken, "--json"))
    assert found["violations"] == [] and found["skipped"] == [] and found["rows"] > 0


def test_compare_names_the_one_threshold_that_differs_and_all_that_moved(unbroken, tmp_path):
    """Two real runs; the second one removes answers to prompts whose meaning is less alike, too."""
    other = tmp_path / "other"
    shutil.copytree(unbroken, other)
    for job in ("dataset", "tokens", "students", "reports"):
        shutil.rmtree(other / job)
    finish(other, "--set", "curation.semantic.threshold=0.5", "--until", "dataset")
    [pair] = json.loads(rayleigh("compare", unbroken, other, "--json"))["pairs"]
    assert pair["contract"] == [{"key": "curation.semantic.threshold", "before": 0.99, "after": 0.5}]
    assert {job["job"]: (job["state"], job["because"]) for job in pair["jobs"]} == {
        **dict.fromkeys(("prompts", "candidates"), ("same", [])),
        "dataset": ("changed", ["curation.semantic.threshold"]),
        **dict.fromkeys(("tokens", STUDENT, "reports"), ("only before", [])),
    }
    before, after = ({row["answer_id"]: row for row in picked(run)} for run in (unbroken, other))
    moved = Counter((before[name]["place"], row["place"]) for name, row in after.items() if row["place"] != before[name]["place"])
    assert {(shift["before"], shift["after"]): shift["rows"] for shift in pair["dataset"]["shifts"]} == moved
    gone = [row for name, row in after.items() if row["place"] == "semantic" != before[name]["place"]]
    assert gone and all(0.5 <= row["similarity"] < 0.99 for row in gone)
    assert (pair["answers"]["other"], pair["pools"]["shifts"], pair["prompts"]["shifts"], pair["models"]) == (0, [], [], None)
    said = [sentence.partition(" ")[0].strip(":") for sentence in pair["summary"]]
    assert said == ["The", "dataset", "Finished", "Dataset", "The"]
    assert pair["summary"][-1] == "The same in both: prompts, answers, pools."


def picked(run):
    place = "case dropped_by when '' then 'picked' when 'pool' then 'pool ' || pool else dropped_by end"
    said = rayleigh("sql", run, f"select answer_id, {place} as place, similarity from picked", "--json")
    return [json.loads(line) for line in said.splitlines()]


def test_sql_cannot_write(unbroken, tmp_path):
    words = command("sql", unbroken, f"copy (select 1) to '{tmp_path}/x.csv'")
    assert subprocess.run(words, cwd=ROOT, capture_output=True, timeout=60).returncode == 1
    assert not (tmp_path / "x.csv").exists()


def test_notebook_reads_the_run(unbroken):
    import nbformat
    from nbclient import NotebookClient

    os.environ["RAYLEIGH_RUN"] = str(unbroken)
    book = nbformat.read(ROOT / "notebooks/read_a_run.ipynb", as_version=4)
    NotebookClient(book, timeout=120, resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()
    assert not [out for cell in book.cells for out in cell.get("outputs", []) if out.output_type == "error"]
