"""`rayleigh cascade` on a made run: the table, the file that it writes, and its refusals."""

import json
import sys

import made_run as made
import numpy as np
import pytest
from made_run import made_run
from typer.testing import CliRunner

from engine.contract.profile import WeightsCache
from engine.errors import InputError, StorageError
from engine.records.certificate import CascadeResult
from engine.rows import PREDICTION, from_rows
from engine.runs.recipe import identify
from engine.serving.deployment import fingerprint_of
from engine.storage.artifact import RowCounts
from engine.storage.folder import Folder
from jobs.bench import cascade as bench
from jobs.cli import app
from jobs.commands import cascade_niche
from jobs.commands.cascade import holdout_of
from jobs.commands.release import promote
from jobs.commands.serve_cascade import certified_in
from jobs.pipeline import pipeline
from jobs.steps.deployed import deployment_of

ROWS = 400


def ask(*words, code=0):
    result = CliRunner().invoke(app, ["cascade", *words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


@pytest.fixture
def run(tmp_path):
    """A run whose student `small` is right as often as it says, beside a teacher that is right in 85 % and ten times as dear."""
    work = made_run(str(tmp_path / "run"), tmp_path)
    draw, rows = np.random.default_rng(0), []
    for index in range(ROWS):
        confidence = float(1 - 0.6 * draw.random() ** 3)
        shared = {"prompt_id": f"p{index}", "scenario": f"c{index // 2}", "finish_reason": "stop", "tokens_in": 10, "tokens_out": 5}
        shared["text"] = "ten apples, and twenty pears" if index % 10 == 0 else f"{index} apples"
        right = bool(draw.random() < confidence)
        rows.append({**shared, "model": "small", "exact": right, "confidence": confidence, "seconds": 0.1})
        rows.append({**shared, "model": "t", "exact": bool(draw.random() < 0.85), "confidence": 0.9, "seconds": 1.0})
    context = work.context(
        {job.name: job for job in pipeline(work.contract)}["reports"], log=lambda text: None, progress=lambda text: None
    )
    report, contract = ((work.folder / "reports").read(name) for name in ("report.json", "contract.json"))
    context.writer.clear()
    context.writer.put("predictions", from_rows(rows, PREDICTION), PREDICTION)
    context.writer.folder.write("report.json", report)
    context.writer.folder.write("contract.json", contract)
    context.writer.finish(identify(context), RowCounts(len(rows), {"stop": len(rows)}))
    return str(tmp_path / "run")


def test_thresholds_are_certified_on_half_and_measured_on_the_other(run, tmp_path):
    text = ask(run, "--alpha", "0.2")
    assert text.startswith("cascade  small -> t") and "small: answers from confidence" in text and "t alone" in text
    found = CascadeResult.model_validate_json((tmp_path / "run" / "cascade.json").read_text())
    certificate = found.certificates["small"]
    assert found.stages == ("small", "t") and certificate.alpha == 0.2 and certificate.method == "effective"
    assert certificate.n == found.check.n == ROWS / 2 and certificate.clusters == 100
    assert certificate.deployment and not certificate.expired(deployment=certificate.deployment)
    assert certificate.expired(deployment="another")
    assert found.check.cost_vs_fallback.high < 0.7 and found.check.risk.low <= 0.2
    assert json.loads(ask(run, "--alpha", "0.2", "--json"))["certificates"] == json.loads(found.model_dump_json())["certificates"]


@pytest.mark.parametrize("cluster", ["source", "parent", "language"])
def test_clusters_are_those_of_the_holdout_where_predictions_do_not_have_the_column(cluster, tmp_path, monkeypatch):
    held = [
        {**made.ASKED, "prompt_id": f"h{number}", "line": number, "reference": "2", "source": f"file{number // 3}",
         "parent_id": f"p{number // 3}", "language": ["en", "de"][number // 3]}
        for number in range(6)
    ]  # fmt: skip
    monkeypatch.setattr(made, "HELD", held)
    monkeypatch.setattr(made, "YAML", f"{made.YAML}evaluation: {{cluster: {cluster}}}\n")
    work = made_run(str(tmp_path / "run"), tmp_path)
    answers = from_rows([{**row, "model": "small"} for row in held], PREDICTION)
    found = holdout_of(answers, "small", work)
    assert found.ids == [f"h{number}" for number in range(6)]
    assert [len({*found.labels[:3]}), len({*found.labels[3:]}), len({*found.labels})] == [1, 1, 2]
    with pytest.raises(InputError, match="answer to x, which is not in the run's holdout"):
        holdout_of(from_rows([{**held[0], "model": "small", "prompt_id": "x"}], PREDICTION), "small", work)


def test_certificate_is_of_the_release_that_promote_makes_and_of_no_other(run, tmp_path):
    ask(run, "--alpha", "0.2")
    file, registry = str(tmp_path / "run" / "cascade.json"), tmp_path / "registry"
    release = Folder(promote(run, str(registry)).release)
    _, found = certified_in(file, deployment_of(release))
    assert found.threshold is not None and found.model == "small"
    manifest = json.loads(release.read("release.json"))
    assert manifest["holdout"] == found.holdout
    release.write("release.json", json.dumps(manifest | {"holdout": "another"}).encode())
    with pytest.raises(InputError, match="which is another now"):
        certified_in(file, deployment_of(release))
    release.write("release.json", json.dumps(manifest).encode())
    content = json.loads(release.read("deployment.json"))
    content["student"]["max_tokens"] += 1
    release.write("deployment.json", json.dumps(content | {"fingerprint": fingerprint_of(content)}).encode())
    with pytest.raises(InputError, match="certified for deployment"):
        certified_in(file, deployment_of(release))


def test_prompts_outside_the_niche_are_left_out_of_the_certificate_and_come_to_no_student(run, tmp_path, monkeypatch):
    monkeypatch.setattr(cascade_niche, "locate", lambda name, **places: name)
    monkeypatch.setattr(cascade_niche, "SentenceEncoder", lambda folder: lambda texts: np.ones((len(texts), 4)) / 2)
    without = json.loads(ask(run, "--alpha", "0.2", "--json"))
    assert without["niche"] is None and "every request counts as inside" in ask(run, "--alpha", "0.2", "--no-niche")
    text = ask(run, "--alpha", "0.2", "--niche")  # the only training prompt has ten characters
    assert f"outside the niche, of {ROWS} prompts of the holdout: {ROWS // 10} by length" in text
    found = CascadeResult.model_validate_json((tmp_path / "run" / "cascade.json").read_text())
    certificate, check = found.certificates["small"], found.check
    inside = ROWS / 2 - certificate.n
    assert 0 < inside < ROWS / 10 and check.by_stage["t"] < without["check"]["by_stage"]["t"] + 0.1
    assert sum(check.by_stage.values()) == pytest.approx(1 - (ROWS / 10 - inside) / check.n)  # nobody answers those outside
    checked = cascade_niche.read_niche(found.niche, Folder(str(tmp_path / "run")), WeightsCache())
    assert checked.model.longest == 10 and checked.section.outside == "abstain" and checked.languages == ("en",)
    (tmp_path / "run" / "cascade.niche.npz").write_bytes(b"x")
    with pytest.raises(StorageError, match="found sha256"):
        cascade_niche.read_niche(found.niche, Folder(str(tmp_path / "run")), WeightsCache())


def test_report_on_another_student_than_the_run_holds_is_not_certified(run, tmp_path):
    record = tmp_path / "run" / "students" / "small" / "record.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"fingerprint": "another"}))
    assert "its report was made on another small than it holds" in ask(run, code=1)


def test_promise_that_cannot_be_kept_leaves_everything_to_the_last_stage(run):
    text = ask(run, "--alpha", "0.01")
    assert "small: no threshold: " in text and "even without an error" in text
    assert "answered by a student  0.000" in text


def test_unknown_stage_single_stage_and_impossible_number_are_refused(run):
    assert "found stage 'nobody', expected one of the evaluated models ['small', 't']" in ask(
        run, "--stage", "nobody", "--stage", "t", code=1
    )
    assert "found one stage" in ask(run, "--stage", "t", code=1)
    assert "less than 1" in ask(run, "--alpha", "1.5", code=1)


def test_bench_counts_broken_promises_and_what_the_cascade_brings(run):
    result = bench.bench(run, sys.executable, bench.Plan(alphas=(0.1,), draws=30, splits=6))
    ways = {each.way: each for each in result.kept}
    assert ways["effective"].broken <= 0.2 and ways["by eye"].broken > ways["effective"].broken
    assert (result.rows, result.clusters, result.student, result.fallback) == (ROWS, ROWS // 2, "small", "t")
    assert 0.2 < result.brought[0].coverage < 1 and result.brought[0].cost < 0.9 and "by eye" in bench.as_text(result)


def test_run_without_reports_says_so(tmp_path):
    run = made_run(str(tmp_path / "run"), tmp_path).folder
    run_reports = run / "reports"
    run_reports.remove()
    assert "reports: no finished job has made it" in ask(str(run), code=1)
