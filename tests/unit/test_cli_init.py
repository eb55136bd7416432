"""`rayleigh init` writes contracts that `rayleigh check` accepts, from flags or from answers on a terminal; nothing is replaced."""

import json
import re

import pytest
from typer.testing import CliRunner

from engine.checks import CheckInput, run_checks
from engine.contract.load import load_contract
from jobs.cli import app
from jobs.starters.seeds import HOLDOUT, KINDS, PROMPTS, seeds


def ask(*words, code=0, typed=None):
    result = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False, input=typed)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_check_accepts_what_init_writes(kind, tmp_path):
    printed = ask("init", tmp_path / "new", "--kind", kind)
    contract = tmp_path / "new" / "contract.yaml"
    assert f"rayleigh check {contract}" in printed
    assert json.loads(ask("check", contract, "--json"))["name"] == "new"


@pytest.mark.parametrize("kind", KINDS)
def test_holdout_has_references_and_shares_no_text_with_the_prompts(kind):
    rows = {name: [json.loads(line) for line in text.splitlines()] for name, text in seeds(kind).items() if name.endswith(".jsonl")}
    prompts, holdout = rows["prompts.jsonl"], rows["holdout.jsonl"]
    assert (len(prompts), len(holdout)) == (PROMPTS, HOLDOUT)
    assert all(row["reference"] for row in holdout)
    for texts in ([row["input"] for row in prompts], [row["input"] for row in holdout]):
        assert len({tuple(re.findall(r"\w+", text.lower())) for text in texts}) == len(texts)  # else a run drops one as a copy
    assert {"reference" in row for row in prompts} == {kind == "reasoning"}
    assert not {row["input"] for row in prompts} & {row["input"] for row in holdout}
    assert {row["scenario"] for row in holdout} - {row["scenario"] for row in prompts}, "no wording is new"


@pytest.mark.parametrize("kind", KINDS)
def test_checks_accept_the_right_answer_and_the_verifier_no_other(kind, tmp_path):
    ask("init", tmp_path, "--kind", kind)
    contract = load_contract(tmp_path / "contract.yaml").contract
    [unit] = contract.specialist.task_units
    checks = [check for check in contract.judges.checks if check.type != "tools"]  # of a conversation, which is not made here
    holdout = [json.loads(line) for line in (tmp_path / "holdout.jsonl").read_text().splitlines()]
    for row in holdout:
        prompt = {"text": row["input"], "reference": row["reference"], "language": "en"}
        results = run_checks(checks, CheckInput.of({**prompt, "answer": row["reference"]}, unit))
        assert all(each.passed for each in results), (row, results)
        if kind == "reasoning":
            results = run_checks(checks, CheckInput.of({**prompt, "answer": '1 + 1 = 2\n{"result":-1}'}, unit))
            assert [each.tag for each in results] == ["", "off_reference"], row


def test_flags_are_written_into_the_contract(tmp_path):
    flags = ["--name", "mine", "--goal", 'Say "yes": or no', "--accuracy", "0.25", "--teacher", "../weights"]
    result = json.loads(ask("init", tmp_path, "--kind", "rewriting", *flags, "--json"))
    contract = load_contract(tmp_path / "contract.yaml").contract
    assert (contract.name, contract.specialist.goal, contract.gate.exact_match) == ("mine", 'Say "yes": or no', 0.25)
    assert contract.teachers.models[0].model.path == "../weights" and result["is_bundled"] is False


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "holdout.jsonl").write_text("mine")
    assert "nothing is overwritten" in ask("init", tmp_path, "--kind", "reasoning", code=1)
    assert [path.name for path in tmp_path.iterdir()] == ["holdout.jsonl"] and (tmp_path / "holdout.jsonl").read_text() == "mine"


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        ([], 2, "--kind"),  # without a terminal nothing is asked
        (["--kind", "poetry"], 1, "expected one of extraction, classification"),
        (["--kind", "reasoning", "--name", "Two Words"], 1, "name"),
    ],
)
def test_wrong_answers_write_nothing(flags, code, said, tmp_path):
    assert said in ask("init", tmp_path / "new", *flags, code=code, typed="")
    assert not (tmp_path / "new").exists()


def test_terminal_is_asked_what_no_flag_says(tmp_path, monkeypatch):
    monkeypatch.setattr("jobs.commands.cli_init.is_terminal", lambda: True)
    ask("init", tmp_path / "new", "--name", "given", typed="classification\nSort reviews.\n\n0.6\n")
    contract = load_contract(tmp_path / "new" / "contract.yaml").contract
    assert (contract.name, contract.specialist.goal, contract.gate.exact_match) == ("given", "Sort reviews.", 0.6)
    assert contract.teachers.models[0].model.path == "smollm2-135m-instruct"
