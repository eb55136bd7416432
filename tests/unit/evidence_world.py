"""Answers whose likelihood under their teacher is planted: the fake engine reads the worth that is written in an answer."""

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_world import PLACES, grader_spec

from engine.contract.evidence import Evidence
from engine.contract.teachers import Teacher
from engine.inference.client import ClientSpec
from engine.inference.fake import FakeEngine
from engine.inference.scoring import Distribution
from engine.judges.grader_spec import EvidenceSpec, GraderSpec, ReaderSpec
from engine.rows import ANSWER, Row, from_rows
from engine.storage.folder import Folder

TEACHER = Teacher.model_validate({"name": "t", "model": {"type": "fake"}})
READER = Teacher.model_validate({"name": "r", "model": {"type": "fake", "path": "other"}})


def gold(count: int, *, seed: int = 0, wrong: float = 0.3, author: str = "t", clear: float = 1.5) -> list[dict[str, Any]]:
    """Return labelled items, two a group; right ones are likelier by `clear` standard deviations."""
    draw = random.Random(seed)
    items = []
    for number in range(count):
        is_right = draw.random() >= wrong
        logprob = -np.exp(draw.gauss(0, 1) - (clear if is_right else 0))
        answer = f"answer {number} worth {logprob:.4f}"
        samples = [answer, answer if draw.random() < (0.9 if is_right else 0.5) else "other"]
        label = "right" if is_right else "wrong"
        items.append(
            {
                "input": f"mail {number}",
                "answer": answer,
                "label": label,
                "author": author,
                "group": f"g{number // 2}",
                "samples": {"t": samples},
            }
        )
    return items


def think(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the fake engine read in an answer the log-probability that it ends with; return the list of all texts that it reads."""
    read: list[str] = []

    def distributions(self: FakeEngine, targets: list[Any], k: int) -> list[Distribution]:
        self.tokens_read += 3 * len(targets)
        found = []
        for target in targets:
            read.append(target.text)
            value = float(target.text.rpartition(" ")[2])
            own = np.array([value / 4, value * 3 / 4, 0.0], np.float32)
            empty = np.zeros((3, 1), np.float32)
            ends = np.array([1, len(target.text), len(target.text)], np.int32)
            found.append(Distribution(np.arange(3, dtype=np.int32), empty.astype(np.int32), empty, own, own, 3, False, ends))
        return found

    monkeypatch.setattr(FakeEngine, "distributions", distributions)
    return read


def spec(folder: Path, items: list[dict[str, Any]], of: tuple[str, ...] = ("logprob", "agreement"), **section: Any) -> GraderSpec:
    """Return the spec of a grader without rubrics whose confidence is computed from the evidence `of`."""
    evidence = Evidence.model_validate({"of": of, **section.pop("evidence", {})})
    section["calibrate"] = {"folds": 2, **section.get("calibrate", {})}  # each fold chooses a form of its own
    plain = grader_spec(folder, items, **{"rubrics": [], **section, "evidence": evidence.model_dump(mode="json")})
    places = [Folder(f"memory:/{folder}/{name}") for name in PLACES]

    def reader(teacher: Teacher) -> ReaderSpec:
        return ReaderSpec(teacher, plain.specialist, ClientSpec(teacher.model, plain.pool, None, *places, payee=teacher.name))  # type: ignore[arg-type]

    readers = {each.name: reader(each) for each in evidence.readers}
    return dataclasses.replace(plain, evidence=EvidenceSpec(evidence, {"t": reader(TEACHER)}, readers))


def answers(*values: float | None, text: str = "mail", **columns: Any) -> Any:
    """Return ANSWER rows, one for each log-probability, of as many prompts."""
    rows: list[Row] = []
    for number, value in enumerate(values):
        tokens = None if value is None else [{"end": 1, "logprob": value / 4}, {"end": 9, "logprob": value * 3 / 4}]
        rows.append(
            {
                "prompt_id": f"p{number}",
                "answer_id": f"f{number}",
                "answer": f"answer {number}",
                "text": f"{text} {number}",
                "messages": [{"role": "user", "content": f"{text} {number}"}],
                "task_unit": "form",
                "teacher": "t",
                "sample": 0,
                "finish_reason": "stop",
                "redacted": [],
                "error": "",
                "difficulty": "easy",
                "logprob": value,
                "tokens_out": 2,
                "token_logprobs": tokens,
                **columns,
            }
        )
    return from_rows(rows, ANSWER)
