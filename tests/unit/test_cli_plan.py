"""`rayleigh plan` without Ray: the prompts are there, and who answers them is made up."""

import json
import sys
import types
from contextlib import nullcontext

import pytest
from made_run import ASKED, HELD, workspace
from typer.testing import CliRunner

from engine.inference.token_budget import TEACHER_TOKENS, TokenBudget, TokenUsage, usage_in
from engine.records.candidates import FailureReason
from engine.records.plan import PlanReport
from engine.records.prompts import PromptsMetrics
from engine.rows import CANDIDATE, HOLDOUT, PROMPT, from_rows
from engine.runs.recipe import identify
from engine.storage.artifact import RowCounts
from jobs.cli import app
from jobs.commands.plan import as_text
from jobs.pipeline import pipeline

PROMPTS, DRAWN = 10, 4
POWER = {"power", "gate_level", "gate_power"}


def answer(context):
    """Stands for the job `candidates`: 10 tokens in and 5 out a prompt, 1 s; the last prompt's answer is no good."""
    asked = context.artifact("prompts").read("prompts", PROMPT).to_pylist()
    is_capped = context.contract.budget.teacher_tokens is not None
    said = {"teacher": "t", "sample": 0, "answer": "2", "seconds": 1.0, "reasons": []}
    paid = {"finish_reason": "stop", "tokens_in": 10, "tokens_out": 5}
    budget_exhausted = {"finish_reason": "budget_exhausted", "tokens_in": 0, "tokens_out": 0}
    rows = [
        {
            **row,
            **said,
            **(budget_exhausted if is_capped else paid),
            "pool": "failure" if is_capped or row is asked[-1] else "train",
        }
        for row in asked
    ]
    context.writer.put("candidates", from_rows(rows, CANDIDATE), CANDIDATE)
    TokenBudget(context.ledger / TEACHER_TOKENS, None).add("t", TokenUsage(len(rows), 10 * len(rows), 5 * len(rows)))
    return RowCounts(len(rows), {"train": len(rows)})


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The workspace of a run whose prompts are finished."""
    import jobs.terminal.session

    work = workspace(str(tmp_path / "run"), tmp_path)
    context = work.context(pipeline(work.contract)[0], log=lambda text: None, progress=lambda text: None)
    rows = [{**ASKED, "prompt_id": f"p{n}", "line": n} for n in range(PROMPTS)]
    context.writer.put("prompts", from_rows(rows, PROMPT), PROMPT)
    context.writer.put("holdout", from_rows(HELD, HOLDOUT), HOLDOUT)
    context.writer.metrics = PromptsMetrics(layers={}, redacted={}, sources={}, seconds=1.0)
    context.writer.finish(identify(context), RowCounts(PROMPTS + 1, {"prompts": PROMPTS, "holdout": 1}))
    work.save()
    made_up = types.ModuleType("jobs.steps.candidates")
    made_up.run = answer
    monkeypatch.setitem(sys.modules, "jobs.steps.candidates", made_up)
    monkeypatch.setattr(jobs.terminal.session, "job_session", lambda *_: nullcontext())
    return work


def ask(work, *more, code=0):
    words = ["plan", work.contract_path, str(work.folder), "--pilot", str(DRAWN), *more]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


def test_plan_json_has_the_documented_keys_and_numbers(toy):
    found = json.loads(ask(toy, "--json"))
    assert set(found) == {"run", "contract", "currency", "pilot", "level", "jobs", "total", "consumers", "cap", *POWER}
    counted = {"prompts": DRAWN, "of": PROMPTS, "answers": DRAWN, "tokens": 60}
    assert found["pilot"] | {"seconds": 0} == {**counted, "seconds": 0, "failures": []}
    jobs = {job["name"]: job for job in found["jobs"]}
    assert list(jobs) == ["prompts", "candidates", "dataset", "tokens", "students/small", "students/large", "reports"]
    assert jobs["prompts"]["rows"]["value"] == PROMPTS + 1
    numbers = {unit: jobs["candidates"][unit]["value"] for unit in ("rows", "tokens_in", "tokens_out")}
    assert numbers == {"rows": 10, "tokens_in": 100, "tokens_out": 50}
    # a machine second costs 0.001, and two engines share the machine; a token in 0.0001, one out 0.001: 0.005 + 0.01 + 0.05
    assert jobs["candidates"]["money"]["value"] == pytest.approx(0.065)
    assert jobs["candidates"]["seconds"]["value"] == pytest.approx(found["pilot"]["seconds"] + 3)
    # three of four drawn prompts: 0.301 to 0.954 after Wilson
    assert jobs["students/small"]["rows"] == pytest.approx({"value": 7.5, "low": 3.006, "high": 9.544}, abs=0.001)
    assert jobs["reports"]["rows"]["value"] == 3 and jobs["reports"]["tokens_in"]["value"] == 10
    assert found["total"]["tokens_out"]["value"] == 55 and found["cap"] is None
    [teacher] = found["consumers"]
    assert teacher | {"basis": ""} == {
        "kind": "teacher", "name": "t", "job": "candidates", "cap": "teacher_tokens", "basis": "",
        "tokens": {"value": 150.0, "low": 150.0, "high": 150.0},
    }  # fmt: skip


def test_plan_pays_into_the_ledger_of_the_run_and_leaves_its_jobs_alone(toy):
    ask(toy)
    assert usage_in(toy.folder / "ledger" / TEACHER_TOKENS) == {"t": TokenUsage(DRAWN, 40, 20)}
    assert not toy.folder.exists("candidates")


def test_plan_asked_again_answers_nothing_again(toy):
    assert json.loads(ask(toy, "--json")) == json.loads(ask(toy, "--json"))
    assert usage_in(toy.folder / "ledger" / TEACHER_TOKENS)["t"].answers == DRAWN


def test_plan_text_says_what_is_known_by_which_rule_and_what_comes_next(toy):
    text = ask(toy)
    assert "The pilot: 4 of 10 prompts, 4 answers, 60 tokens" in text
    assert "Money is that of the teachers' answers, a lower bound (>=). In no sum: the machines of trainings" in text
    [total] = [line for line in text.splitlines() if line.startswith("all ")]
    assert total.count(">= ") == 1
    assert "money EUR" in text and "7.5 (3.01 to 9.54)" in text and "students/small: rows: at most" in text
    assert text.strip().endswith(f"`rayleigh run {toy.contract_path} {toy.folder}` pays for the others only.")


def test_plan_gives_the_reasons_of_answers_that_failed(toy):
    report = PlanReport.model_validate_json(ask(toy, "--json"))
    known = {"answers": 3, "answer_id": "ab12", "prompt_id": "p", "text": "two", "words": "full: 7"}
    reason = FailureReason(pool="failure", reason="finish_reason_error: full: N", **known)
    pilot = report.pilot.model_copy(update={"failures": (reason,)})
    text = as_text(report.model_copy(update={"pilot": pilot}), "toy.yaml")
    assert "3 of 4 (75 %) failure: finish_reason_error: full: N\n    for example answer ab12 to 'two': full: 7" in text


def test_plan_of_a_budget_that_ends_within_the_pilot_is_refused(toy):
    said = ask(toy, "--set", "budget.teacher_tokens=7", code=1)
    wanted = "ContractError: budget.teacher_tokens: 7 does not suffice for this pilot. Raise it, or lower --pilot."
    assert said.splitlines()[-1] == wanted
    ask(toy)  # another cap is not refused for the sake of the first


def test_plan_in_the_folder_of_another_order_is_refused(toy):
    ask(toy)
    said = ask(toy, "--set", "teachers.models.0.sampling.n=3", code=1)
    assert said.startswith("RecipeMismatch: ") and "teachers.models.0.sampling.n: 1 -> 3" in said and "plan/4/candidates" in said


def test_plan_names_the_folder_of_the_contract_by_default(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "run").rename(tmp_path / "runs" / "toy")
    result = CliRunner().invoke(app, ["plan", toy.contract_path, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["run"] == str(tmp_path / "runs" / "toy")


def test_plan_says_what_the_holdout_can_prove(toy):
    [power] = PlanReport.model_validate(json.loads(ask(toy, "--json"))).power
    assert (power.requirement, power.rows, power.clusters, power.is_enough, power.detectable) == ("exact_match", 1, 1, False, None)
    assert power.true == 0.55 and power.needed == power.needed_rows == 617
    assert "intra-cluster correlation 0.5, assumed" in power.basis
    text = ask(toy)
    assert "617 (617 independent)" in text and "NO" in text and "What the holdout can prove at a risk of 0.05" in text
