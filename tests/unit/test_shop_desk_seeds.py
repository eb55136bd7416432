"""The task of mode `tools`: made by the generator, and true: the tools give what the references say."""

import json
from pathlib import Path

import pytest

from jobs.contracts.shop_desk import generate

HERE = generate.HERE


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shop_desk")
    generate.write(folder)
    return folder


def test_generator_run_again_writes_the_committed_bytes(made: Path) -> None:
    for name in ("orders.csv", "handbook.jsonl", "train.jsonl", "holdout.jsonl", "shots.jsonl"):
        assert (made / name).read_bytes() == (HERE / name).read_bytes(), name


def test_the_call_of_each_question_finds_its_truth(made: Path) -> None:
    tools = generate.opened(str(made))
    for question in (one for use in generate.PER_KIND for one in generate.questions(use)):
        tool, argument = question.call
        text, ok = tools[tool](argument)
        assert ok and (question.value in text if question.value else text == ""), question


def test_no_question_of_training_is_asked_in_the_holdout() -> None:
    uses = [{one.text for one in generate.questions(use)} for use in ("train", "holdout", "shots")]
    assert [len(use) for use in uses] == [42, 21, 7] and len(set.union(*uses)) == 70
    held = [json.loads(line) for line in (HERE / "holdout.jsonl").read_text().splitlines()]
    assert sum(json.loads(one["reference"])["value"] is None for one in held) == 3
