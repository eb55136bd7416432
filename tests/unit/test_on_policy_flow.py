"""Prompts of the rounds from a dataset, and the flow of a round on Ray's functions in this process, with models by rule."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.capture.capturer import CaptureSpec
from engine.contract.capture import Capture
from engine.contract.checks import Length
from engine.contract.models import FakeModel
from engine.contract.on_policy import OnPolicy
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist
from engine.contract.teachers import Teacher
from engine.distributed import in_process
from engine.errors import InputError, ModelError
from engine.inference.client import ClientSpec
from engine.records.record import Identity
from engine.rows import EXAMPLE, PICKED, from_rows
from engine.storage.artifact import Artifact, ArtifactWriter, RowCounts
from engine.storage.folder import Folder
from engine.students import flow
from engine.students.on_policy.questions import Questions, choose
from engine.students.on_policy.rewards import Rewards
from engine.students.on_policy.sampler import SamplerSpec
from engine.students.on_policy.schemas import HELD_OUT, TRAIN

SECTION = OnPolicy(objective="grpo", rewards={"short": 1}, rounds=2, prompts_per_round=3, samples=2, held_out=2, max_tokens=2)
SPECIALIST = Specialist.model_validate(
    {"goal": "g", "task_units": [{"name": "u", "kind": "decision"}, {"name": "v", "kind": "decision"}]}
)


def dataset(folder: Path) -> Artifact:
    """Four training and three validation prompts of `u`, one of `v`, one whose only example is a refusal; the first has a copy."""
    examples, picked = [], []
    for at in range(9):
        unit, kind = ("v" if at == 7 else "u"), ("refusal" if at == 8 else "answer")
        turns = [{"role": "user", "content": f"word{at} and more"}]
        same = {"prompt_id": f"{at:032x}", "task_unit": unit}
        split = "validation" if at in (4, 5, 6) else "train"
        row = {**same, "messages": [{"role": "system", "content": "Say."}, *turns], "split": split, "kind": kind}
        examples += [{**row, "example_id": name} for name in ([f"e{at}", "e0-again1"] if at == 0 else [f"e{at}"])]
        picked.append(
            {**same, "answer_id": f"e{at}", "messages": turns, "text": f"word{at}", "reference": f"r{at}", "language": "en"}
        )
    writer = ArtifactWriter(Folder(str(folder / "dataset")))
    writer.put("examples", from_rows(examples, EXAMPLE), EXAMPLE)
    writer.put("picked", from_rows(picked, PICKED), PICKED)
    return writer.finish(Identity("dataset", {}, {}, "0"), RowCounts(1, {"picked": 1}))


def chosen(folder: Path, section: OnPolicy = SECTION, seed: int = 0) -> Questions:
    return choose(dataset(folder), section, seed=seed, task_units={"u"}, path="students.s.on_policy")


def test_rounds_draw_answered_prompts_and_ask_the_same_held_out_ones(tmp_path: Path) -> None:
    found = chosen(tmp_path)
    first, second, last = (found.of_round(number, SECTION, is_last=number > 2).to_pylist() for number in (1, 2, 3))
    held = [[row["prompt_id"] for row in rows if row["split"] == HELD_OUT] for rows in (first, second, last)]
    assert held[0] == held[1] == held[2] and len(held[0]) == 2 == len(last)
    drawn = [[int(row["prompt_id"], 16) for row in rows if row["split"] == TRAIN] for rows in (first, second)]
    assert [len(each) for each in drawn] == [3, 3] and {*drawn[0], *drawn[1]} == {0, 1, 2, 3}
    for row in first:
        at = int(row["prompt_id"], 16)
        assert (row["text"], row["reference"]) == (f"word{at}", f"r{at}")
        assert [turn["role"] for turn in row["messages"]] == ["system", "user"] and [turn["role"] for turn in row["asked"]] == [
            "user"
        ]
    again = chosen(tmp_path / "again")
    assert again.rows.equals(found.rows) and np.array_equal(again.drawn, found.drawn)


def test_a_dataset_without_prompts_to_sample_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no validation example that answers a prompt of v, and students.s.on_policy"):
        choose(dataset(tmp_path), SECTION, seed=0, task_units={"v"}, path="students.s.on_policy")


@pytest.fixture(autouse=True)
def here() -> Iterator[None]:
    with in_process.flows(is_here=True, pool=Pool()):
        yield


def client(folder: Path, name: str, **model: Any) -> ClientSpec:
    ledger, markers, budget = (Folder(str(folder / name / each)) for each in ("ledger", "markers", "budget"))
    return ClientSpec(FakeModel(type="fake", **model), Pool(batch=2), None, ledger, markers, budget)


def test_samples_are_rewarded_and_scored_in_blocks(tmp_path: Path) -> None:
    asked = chosen(tmp_path).of_round(1, SECTION, is_last=False)
    rewards = Rewards.of([Length(type="length", name="short", max=1)], SECTION.rewards, SPECIALIST)
    spec = SamplerSpec(SECTION, client(tmp_path, "s", replies=("a", "b c")), 0, 1)
    samples = flow.sample(asked, spec, rewards, Folder(str(tmp_path / "samples")), Pool())
    rows = samples.to_pylist()
    assert len(rows) == 3 * 2 + 2 and {(row["answer"], row["reward"]) for row in rows} == {("a", 1.0), ("b c", 0.0)}
    section = Capture(teachers={"t": 1.0}, k=8, constraint="none")
    teacher = Teacher.model_validate({"name": "t", "model": {"type": "fake"}})
    scoring = CaptureSpec(section, teacher, SPECIALIST, client(tmp_path, "t"))
    found = flow.score(samples, scoring, Folder(str(tmp_path / "scores")), Pool())
    assert sorted(found.rows["example_id"].to_pylist()) == sorted(row["sample_id"] for row in rows)
    assert set(found.rows["finish_reason"].to_pylist()) == {"stop"} and list(found.metrics.teachers) == ["t"]
    nothing = samples.slice(0, 2).set_column(samples.schema.get_field_index("ids"), "ids", pa.array([[], []], pa.list_(pa.int32())))
    assert flow.score(nothing, scoring, Folder(str(tmp_path / "none")), Pool()).rows.num_rows == 0


def test_more_entries_than_the_teacher_has_tokens_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "vocabulary", lambda model, folder: pa.table({"id": pa.array(range(7), pa.int32())}))
    spec = CaptureSpec(
        Capture(k=8), Teacher.model_validate({"name": "t", "model": {"type": "fake"}}), SPECIALIST, client(tmp_path, "t")
    )
    with pytest.raises(ModelError, match=r"on_policy.k: found 8, but the teacher t has 7 tokens"):
        flow.score(pa.table({}), spec, Folder(str(tmp_path)), Pool())
