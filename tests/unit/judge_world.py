"""Judges of known character: the fake engine's ratings are a function of the prompt."""

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.calibration.judge_calibration import calibrate
from engine.contract.judges import Judges
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist, TaskUnit
from engine.inference.client import ClientSpec
from engine.inference.engine import Lost
from engine.inference.fake import FakeEngine
from engine.judges.grader_spec import GraderSpec
from engine.judges.judge import Judge
from engine.records.judge import JudgeCalibration
from engine.rows import content_id
from engine.storage.folder import Folder
from tests.planted import planted

RUBRIC = {
    "name": "j",
    "model": {"type": "fake"},
    "system": "Judge.",
    "question": "MAIL {text} FORM {answer} END",
    "scale": ["bad", "good"],
}
RANKING = {"question": "MAIL {text} FIRST {first} SECOND {second} END"}
PLACES = ("ledger", "markers", "budget")
SPECIALIST = Specialist(goal="g", task_units=(TaskUnit(name="form", kind="rewrite"),))


def grader_spec(folder: Path, gold: list[dict[str, Any]] | None = None, **section: Any) -> GraderSpec:
    """Return the spec of a grader with one rubric and these labelled items."""
    judges: dict[str, Any] = {"rubrics": [RUBRIC], **section}
    if gold is not None:
        judges["calibrate"] = {"gold": gold, **judges.get("calibrate", {})}
    spec = GraderSpec(Judges.model_validate(judges), SPECIALIST, Pool(batch=256))
    return with_clients(spec, *(Folder(f"memory:/{folder}/{name}") for name in PLACES))  # hundreds are calibrated


def with_clients(spec: GraderSpec, *places: Folder, cap: int | None = None) -> GraderSpec:
    """Return `spec` with a client for each of its rubrics; `places` are the folders PLACES."""
    rubrics = spec.section.rubrics
    clients = {one.name: ClientSpec(one.model, spec.pool, None, *places, cap=cap, payee=one.name) for one in rubrics}
    return dataclasses.replace(spec, clients=clients)


def change_clients(spec: GraderSpec, **changes: Any) -> GraderSpec:
    return dataclasses.replace(spec, clients={name: dataclasses.replace(one, **changes) for name, one in spec.clients.items()})


def between(text: str, start: str, end: str) -> str:
    return text.partition(f"{start} ")[2].rpartition(f" {end}")[0]


class Character:
    """A judge that rates right answers high and others low, with some noise, and with the given biases."""

    def __init__(self, *, seed: int = 0, noise: float = 0.15, first: float = 0.0, long: float = 0.0, short: float = 0.0) -> None:
        self.right = {item["reference"] for item in planted(60)}
        self.seed, self.noise, self.first, self.long, self.short = seed, noise, first, long, short

    def worth(self, answer: str) -> float:
        """The probability of the best rating."""
        plain = 0.75 if answer in self.right else 0.3
        chance = random.Random(content_id(self.seed, answer)).uniform(-self.noise, self.noise)
        return min(1.0, max(0.0, plain + chance + self.long * len(answer) / 200 + self.short * max(0.0, 1 - len(answer) / 100)))

    def __call__(self, asked: str) -> list[float]:
        """The probabilities of the ratings."""
        if "FIRST" not in asked:
            worth = self.worth(between(asked, "FORM", "END"))
            return [1 - worth, worth]
        one, other = (self.worth(text) for text in (between(asked, "FIRST", "SECOND"), between(asked, "SECOND", "END")))
        better = min(1.0, max(0.0, 0.5 + (one - other) / 2 + self.first))
        return [better * 0.9, (1 - better) * 0.9, 0.1]


def think(monkeypatch: pytest.MonkeyPatch, of: Callable[[str], list[float] | Lost | None]) -> list[str]:
    """Let the fake engine rate by `of`; return the list to which every prompt that it reads is appended."""
    read: list[str] = []

    def choice_probs(self: FakeEngine, chats: list[Any], choices: list[str]) -> list[list[float] | Lost | None]:
        asked = [chat[-1]["content"] for chat in chats]
        read.extend(asked)
        self.tokens_read += len(asked)
        return [of(text) for text in asked]

    monkeypatch.setattr(FakeEngine, "choice_probs", choice_probs)
    return read


def calibrated(spec: GraderSpec) -> JudgeCalibration:
    calibration = calibrate(Judge(spec))
    assert calibration
    return calibration
