"""`rayleigh judge` without Ray: a judge of known character on labelled items."""

import json
import sys
import types
from contextlib import nullcontext

import pytest
import yaml
from judge_world import RANKING, RUBRIC, Character, think
from typer.testing import CliRunner

from engine.grading.grader import Grader
from jobs.cli import app
from tests.planted import KINDS, by_hand, planted

ORDER = {
    "name": "toy",
    "specialist": {"goal": "fill", "task_units": [{"name": "form", "kind": "extraction"}]},
    "prompts": {
        "sources": [{"path": "seeds.jsonl", "licence": "CC0-1.0"}],
        "holdout": {"path": "seeds.jsonl", "labels": "rule"},
    },
    "teachers": {"mode": "judged", "models": [{"name": "t", "model": {"type": "fake"}}]},
    "judges": {"rubrics": [RUBRIC], "ranking": RANKING, "accept": {"confidence": 0.5}, "audit": None},
    "curation": {"semantic": None},
    "students": [{"name": "s", "init": {"prune": {"source": "model", "layers": [0]}}}],
    "gate": {},
}


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Ask for the judge of ORDER with some changes, on 60 labelled items."""
    import jobs.terminal.session

    flow = types.ModuleType("engine.grading.flow")  # the real one starts Ray
    flow.calibrate = lambda spec: Grader(spec).calibration
    monkeypatch.setitem(sys.modules, "engine.grading.flow", flow)
    monkeypatch.setattr(jobs.terminal.session, "job_session", lambda work, console: nullcontext())
    gold = tmp_path / "gold.jsonl"
    gold.write_text("".join(json.dumps(item) + "\n" for item in planted(30)))

    def asked(*more, code=0, gold=str(gold), **judges):
        order = tmp_path / "toy.yaml"
        order.write_text(yaml.safe_dump({**ORDER, "judges": {**ORDER["judges"], **judges}}))
        options = ["--gold", gold] if gold else []
        result = CliRunner().invoke(app, ["judge", str(order), str(tmp_path / "run"), *options, *more], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.stderr if code else result.stdout

    return asked


def test_judge_json_has_the_documented_keys_and_the_numbers_counted_by_hand(ask, monkeypatch):
    think(monkeypatch, Character(noise=0.4))
    report = json.loads(ask("--json"))
    assert set(report) == {
        "contract", "name", "decides", "why", "bound_to", "curve", "folds", "agreement", "audit", "items", "tokens",
    }  # fmt: skip
    expected = by_hand(report["items"], 0.5)
    assert {name: report["agreement"][name]["value"] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert 0 < expected["kappa"] < 1 and report["tokens"] == 2 * 60
    assert set(report["agreement"]["errors"]) == set(KINDS)


def test_judge_prints_its_numbers_and_whether_it_may_decide(ask, monkeypatch):
    think(monkeypatch, Character(noise=0.05))
    text = ask()
    assert all(f"\n{name} " in text for name in ("kappa", "sensitivity", "specificity", "auc", "ece", "stops wrong_number"))
    assert "j on 60 labelled items without references, 120 tokens paid." in text and text.endswith("It may decide.\n")


def test_bias_is_printed_with_its_verdict(ask, monkeypatch):
    think(monkeypatch, Character(first=0.3))
    text = ask(audit={}, calibrate={"gold": planted(4)})
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("position ")] == ["beyond"]
    assert "It annotates, it decides nothing: its bias `position` is 0.5" in text


def test_judge_is_asked_once_for_each_run_folder(ask, monkeypatch):
    read = think(monkeypatch, Character())
    first, count = ask("--json"), len(read)
    assert ask("--json") == first and len(read) == count


@pytest.mark.parametrize("mapped", [True, False])
def test_judge_sees_references_only_if_the_prompts_have_some(ask, monkeypatch, mapped):
    """As in a run: with references it is another judge than without."""
    read = think(monkeypatch, Character())
    rubric = {**RUBRIC, "question": "MAIL {text}\nRIGHT {reference}\nFORM {answer} END"}
    more = ["--set", "prompts.sources.0.columns={text: input, reference: reference}"] if mapped else []
    assert f"on 60 labelled items with{'' if mapped else 'out'}" in ask(*more, rubrics=[rubric])
    assert {"\nRIGHT {" in text for text in read} == {mapped}


@pytest.mark.parametrize(
    ("words", "judges", "message"),
    [
        (["--set", "teachers.mode=direct"], {}, "judges.rubrics: in teachers.mode direct the checks alone decide"),
        ([], {"gold": None}, "there are no labelled items"),
        (["--gold", "none.jsonl"], {}, "none.jsonl: cannot be read"),
    ],
)
def test_judge_that_cannot_be_measured_is_refused(ask, words, judges, message):
    assert message in ask(*words, code=1, **judges)


def test_gold_with_a_wrong_label_is_refused_with_its_place(ask, tmp_path):
    odd = tmp_path / "odd.jsonl"
    odd.write_text("".join(json.dumps({**item, "label": "fair"}) + "\n" for item in planted(4)))
    message = ask(gold=str(odd), code=1)
    assert "odd.jsonl: 8 problem(s)" in message and "judges.calibrate.gold.0.label" in message


def test_judge_without_rubrics_shows_the_evidence(ask):
    gold = {"calibrate": {"gold": planted(4), "folds": 2}}
    section = {"rubrics": [], "ranking": None, **gold, "evidence": {"of": ["logprob", "length", "agreement"]}}
    text = ask(**section)
    assert "toy: evidence on 60 labelled items without references" in text and "The confidence is computed from " in text
    assert "known of no labelled item" in text and "auc alone" in text
    [line] = [line for line in text.splitlines() if line.startswith("0.5 ")]  # what `accept.confidence` would accept
    accepted = [item for item in json.loads(ask("--json", **section))["items"] if item["confidence"] >= 0.5]
    right = sum(item["label"] == "right" for item in accepted) / len(accepted)
    assert line.split()[1:3] == [f"{len(accepted) / 60:.3f}", f"{right:.3f}"]
    report = json.loads(ask("--json", **section))
    assert report["evidence"]["measured_on"] == "labelled" and report["tokens"] > 0
    assert {kind["name"] for kind in report["evidence"]["kinds"]} == {"logprob", "length", "agreement"}


def test_judge_without_rubrics_and_evidence_is_refused(ask):
    found = ask(code=1, rubrics=[], ranking=None)
    assert "judges.rubrics: is needed" in found
