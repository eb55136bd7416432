"""Engines that die or hang, on real Ray: the batch is asked again elsewhere, and what kills is set apart."""

import dataclasses
import json

import pytest

from engine.contract.profile import Profile
from engine.rows import CANDIDATE
from engine.runs.job import run_job
from tests.line import data_world as world

TEACHER = {"type": "fake", "dies_on": "poison", "hangs_on": "endless"}
JUDGE = {"type": "fake", "dies_on": "venom"}
ORDER = world.contract(
    teachers={"mode": "judged", "models": [{"name": "t", "model": TEACHER}]},
    judges={"rubrics": [{"name": "j", "model": JUDGE, "system": "Judge.", "question": "{text} {answer}"}]},
)
PROFILE = Profile.model_validate(
    {
        "name": "small",
        "teacher": {"actors": 2, "batch": 4, "hang_seconds": 2},
        "judge": {"actors": 2, "cpus": 4.5, "batch": 4, "hang_seconds": 2},  # the second finds no place: nobody waits for it
    }
)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, cluster: None) -> list[dict]:
    """Candidates of 24 prompts, one of which kills the teacher, one hangs it, and one kills the judge."""
    folder = tmp_path_factory.mktemp("candidates")
    texts = world.mails(24)
    texts[3], texts[12], texts[20] = "This one is poison.", "This one is endless.", "This one is venom."
    (folder / "seeds.jsonl").write_text("".join(json.dumps({"input": text}) + "\n" for text in texts))
    (folder / "holdout.jsonl").write_text(json.dumps({"input": "We need 3 red kites.", "reference": "{}"}) + "\n")
    world.run(folder, "prompts", ORDER)
    context = dataclasses.replace(world.context(folder, "candidates", ORDER), profile=PROFILE)
    return run_job(context).read("candidates", CANDIDATE).to_pylist()


def test_no_row_is_lost_and_none_comes_twice(rows: list[dict]) -> None:
    assert len(rows) == 24 and len({row["answer_id"] for row in rows}) == 24


@pytest.mark.parametrize("word", ["poison", "endless"])
def test_a_prompt_that_ends_its_teacher_fails_alone(rows: list[dict], word: str) -> None:
    [failed] = [row for row in rows if word in row["text"]]
    assert (failed["finish_reason"], failed["pool"]) == ("error", "failure")
    assert "killed its engine" in failed["error"]


def test_all_others_are_answered(rows: list[dict]) -> None:
    assert [row["finish_reason"] for row in rows].count("stop") == 22


def test_an_answer_that_ends_the_judge_goes_without_its_mark(rows: list[dict]) -> None:
    unmarked = [row["text"] for row in rows if row["finish_reason"] == "stop" and row["score"] is None]
    assert unmarked == ["This one is venom."]
