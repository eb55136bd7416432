"""The section `on_policy` of a student: what is refused before anything is paid, and what stays as it was without it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from made_run import YAML
from pydantic import ValidationError

from engine.contract.consumers import consumers
from engine.contract.contract import Contract
from engine.errors import ModelError
from jobs.commands.check_capture import verify_rounds
from jobs.commands.check_students import student_line, student_notes
from jobs.commands.estimate import SUMS, Extrapolation, Pilot, consumer_plans

CHECKS = [{"type": "regex", "pattern": "a"}, {"type": "length", "max": 3, "name": "short"}]
KL, GRPO = {"objective": "on_policy_kl", "teacher": "t"}, {"objective": "grpo", "rewards": {"regex": 1}}


def contract(section: Any, **changes: Any) -> Contract:
    raw = yaml.safe_load(YAML)
    raw["students"][0] |= {"on_policy": section} if section else {}
    raw["judges"] = {"checks": CHECKS}
    for path, value in changes.items():
        place = raw
        *parents, last = path.split("__")
        for key in parents:
            place = place[int(key) if key.isdigit() else key]
        place[int(last) if last.isdigit() else last] = value
    return Contract.model_validate(raw)


def test_a_student_without_rounds_is_dumped_as_before() -> None:
    plain, ordered = contract(None), contract(GRPO)
    assert "on_policy" not in plain.students[0].model_dump() and "on_policy" in ordered.students[0].model_dump()
    assert [each.kind for each in consumers(ordered)] == ["teacher"]


def test_the_teacher_that_scores_is_a_paid_consumer() -> None:
    assert [each.kind for each in consumers(contract(KL))] == ["teacher", "on_policy"]
    mine = {**KL, "teacher": "self", "instruction": "Think of the units."}
    assert [each.kind for each in consumers(contract(mine))] == ["teacher"]


@pytest.mark.parametrize(
    ("section", "changes", "words"),
    [
        ({"objective": "grpo"}, {}, "rewards: found none, expected checks of judges.checks with weights"),
        ({**GRPO, "rewards": {"regex": 0}}, {}, "expected weights above 0"),
        ({**GRPO, "rewards": {"json": 1}}, {}, r"on_policy.rewards: found 'json', expected one of the checks \['regex', 'short'\]"),
        (GRPO, {"judges__checks": [*CHECKS, CHECKS[0]]}, "a name that one check alone has; give each a `name`"),
        ({**GRPO, "samples": 1}, {}, "samples: found 1, expected at least 2"),
        ({**GRPO, "teacher": "t"}, {}, "teacher: not used by grpo"),
        ({"objective": "on_policy_kl"}, {}, "teacher: is needed: the name of a teacher, or `self` or `source`"),
        ({**KL, "rewards": {"regex": 1}}, {}, "rewards: not used by on_policy_kl"),
        ({**KL, "teacher": "u"}, {}, r"on_policy.teacher: found 'u', expected self, source, or one of teachers.models \['t'\]"),
        ({**KL, "teacher": "self"}, {}, "instruction: is needed with teacher self"),
        ({**KL, "instruction": "x"}, {}, "which has its own in teachers.models"),
        ({**KL, "k": 255}, {}, "less than or equal to 254"),
        (
            KL,
            {"teachers__models__0__model": {"type": "endpoint", "url": "http://h/v1", "path": "m"}},
            "t is of type endpoint, which gives no log-probabilities of samples",
        ),
        (
            KL,
            {"teachers__models__0": {"name": "t", "model": {"type": "fake"}, "thinks": {}, "structured": False}},
            "reasons before it answers",
        ),
        (GRPO, {"students__0__init__adapter": {}}, "found init.adapter, expected none"),
        (GRPO, {"teachers__mode": "tools", "teachers__tools": [{"type": "calculator"}]}, "found teachers.mode tools"),
    ],
)
def test_what_the_rounds_lack_is_named(section: Any, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        contract(section, **changes)


def test_check_names_a_vocabulary_that_is_too_small_and_units_without_a_reward(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"vocab_size": 60}')
    ordered = contract({**KL, "teacher": "source"})
    with pytest.raises(ModelError, match=r"students.0.on_policy.k: found 64, but source has 60 tokens. Write at most that"):
        verify_rounds(ordered, root=str(tmp_path), models=str(tmp_path))
    verify_rounds(contract({**KL, "teacher": "source", "k": 60}), root=str(tmp_path), models=str(tmp_path))
    units = [{"name": "count", "kind": "decision"}, {"name": "add", "kind": "decision"}]
    checks = [{**CHECKS[0], "task_units": ["add"]}, CHECKS[1]]
    sources = [{"path": "seeds.jsonl", "licence": "CC0-1.0", "task_unit": "add"}]
    two = contract(GRPO, specialist__task_units=units, judges__checks=checks, prompts__sources=sources)
    assert list(student_notes(two)) == ["small: on_policy.rewards has no check for count, so their prompts are not sampled"]
    assert "then 4 on-policy rounds (grpo)" in student_line(two.students[0])


def test_a_plan_counts_what_the_teacher_reads_at_most() -> None:
    sums = {name: np.full(4, 10.0) for name in SUMS}
    pilot = Pilot(sums=sums, represents=40, seconds=1.0, bytes=1, tokens={"t": np.full(4, 9.0)})
    section = {**KL, "rounds": 2, "prompts_per_round": 3, "samples": 5, "held_out": 7, "max_tokens": 6}
    plans = consumer_plans(contract(section), Extrapolation(pilot, times=50, level=0.9, seed=0), synthesis=None)
    tokens = next(plan.tokens for plan in plans if plan.kind == "on_policy")
    assert tokens is not None and tokens.value == (2 * 3 * 5 + 3 * 7) * (10 + 6)
