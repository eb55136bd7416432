"""Engines that help a teacher, on Ray: the answers are those of one engine, each is asked once, and both have answered."""

import json
from pathlib import Path

import pytest

from engine.contract.models import FakeModel
from engine.contract.profile import Profile
from engine.contract.specialist import TaskUnit
from engine.evaluation import flow
from engine.evaluation.answers import EvalLedger
from engine.evaluation.evaluator import EvalTarget, Evaluated
from engine.evaluation.flow import Kept, evaluate
from engine.storage.folder import Folder

UNIT = TaskUnit.model_validate({"name": "echo", "kind": "rewrite", "instruction": "Repeat."})
ROWS = [
    {
        "prompt_id": f"p{number}", "messages": [{"role": "user", "content": f"text {number}"}], "text": f"text {number}",
        "reference": "", "layer": "core", "difficulty": "easy", "task_unit": "echo", "scenario": "plain",
    }
    for number in range(30)
]  # fmt: skip


def evaluated(folder: Path, engines: int) -> tuple[list[Evaluated], list[str]]:
    """Return what a teacher with so many engines in `candidates`, and a student, answer; and what was said."""
    sections = {"name": "p", "teacher": {"actors": engines}, "evaluator": {"actors": 4, "batch": 3, "cpus": 0.5}}
    profile, said = Profile.model_validate(sections), list[str]()
    ledger = EvalLedger(rows=Folder(f"{folder}/paid"), own=Folder(f"{folder}/own"))
    targets = [
        EvalTarget(name=name, role=role, model=FakeModel(type="fake", replies=replies), units={"echo": UNIT})
        for name, role, replies in (("t", "teacher", ()), ("s", "student", ("another model",)))
    ]
    return list(evaluate(targets, ROWS, profile, timed=2, progress=said.append, kept=Kept(ledger))), said


def asked(folder: Path) -> list[int]:
    """Return how many answers each process has paid for."""
    usages = [json.loads(path.read_text()) for path in (folder / "own/evaluation_tokens").iterdir()]
    return sorted(usage[""][0] for usage in usages)


def texts(evaluated: Evaluated) -> list[str]:
    return [completion.text for completion in evaluated.completions]


@pytest.mark.usefixtures("cluster")
def test_two_engines_of_a_teacher_answer_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "free_gib", lambda: 99.0)
    alone, said = evaluated(tmp_path / "alone", 1)
    assert said == ["loading t, s", "t: 30 of 30 answered", "s: 30 of 30 answered"]
    together, said = evaluated(tmp_path / "together", 2)
    assert said == ["loading t, s", "t: 2 engines", "t: 30 of 30 answered", "s: 30 of 30 answered"]
    for one, other in zip(alone, together, strict=True):
        assert texts(one) == texts(other)
        assert sorted(one.seconds) == sorted(other.seconds) == [0, 15]
    assert asked(tmp_path / "alone") == [30, 30]
    # of ten batches of 3 the last one has a row; the first is timed, and the helper has every second one of the other nine
    assert asked(tmp_path / "together") == [12, 18, 30]
    again, said = evaluated(tmp_path / "together", 2)
    assert "t: 2 engines" not in said  # nothing is left for another one
    assert [each.completions for each in again] == [each.completions for each in together]
    assert asked(tmp_path / "together") == [12, 18, 30]
