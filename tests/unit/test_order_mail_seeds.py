"""The default task's files: made by the generator, true by construction, and apart from each other where they must be."""

import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml

from engine.contract.load import load_contract
from engine.records.report import ModelEntry
from engine.release.gate import thresholds
from engine.release.power import Holdout, requirement_power
from engine.stats.clusters import Clusters
from jobs.contracts.order_mail import generate

HERE = generate.HERE
MADE = ("train", "holdout", "shots", "shots_fixed", "judge_gold")


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (HERE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def phrasings() -> dict[str, dict]:
    listed = yaml.safe_load((HERE / "phrasings.yaml").read_text(encoding="utf-8"))
    named = {one["id"]: one for one in listed}
    assert len(named) == len(listed)
    return named


def test_generator_run_again_writes_the_committed_bytes(tmp_path: Path) -> None:
    generate.write(tmp_path)
    for name in MADE:
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (HERE / f"{name}.jsonl").read_bytes(), name


def test_phrasings_are_many_and_some_are_kept_for_the_holdout(phrasings: dict) -> None:
    held = [one for one in phrasings.values() if one["use"] == "holdout"]
    assert len(phrasings) >= 40
    assert len(held) >= 15
    assert {one["layer"] for one in held} == {"core", "failure_mode", "long_tail"}


def test_holdout_is_large_enough_to_decide_the_default_gate() -> None:
    held, contract = rows("holdout"), load_contract(HERE.parent / "smoke.yaml").contract
    every = Clusters([row["phrasing"] for row in held])
    assert every.rows == 700 and every.count >= 150
    unseen = every.take(np.array([not row["seen"] for row in held]))
    student = ModelEntry(name="s", role="student")
    power = requirement_power(contract.gate, thresholds(student, contract.gate), Holdout(every, unseen, every))
    too_few = [each.requirement for each in power if each.needed is not None and not each.is_enough]
    assert too_few == [] and len([each for each in power if each.is_enough]) == 4


def test_no_holdout_mail_is_nearly_a_training_mail_of_its_phrasing() -> None:
    train: dict[str, list[set]] = {}
    for row in rows("train"):
        train.setdefault(row["phrasing"], []).append(runs(row["input"]))
    for row in rows("holdout"):
        own = runs(row["input"])
        assert all(len(own & other) <= 0.8 * len(other) for other in train.get(row["phrasing"], ())), row["input"]


def runs(text: str) -> set[tuple[str, ...]]:
    """Eight words in a row, as decontamination compares them."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[at : at + 8]) for at in range(max(1, len(words) - 7))}


def test_unseen_phrasings_occur_in_no_other_file(phrasings: dict) -> None:
    unseen = {row["phrasing"] for row in rows("holdout") if not row["seen"]}
    known = {row["phrasing"] for name in ("train", "judge_gold") for row in rows(name)}
    assert unseen.isdisjoint(known)
    assert all(mail.phrasing["use"] == "train" for mail in generate.shots())
    assert {row["phrasing"] for row in rows("holdout") if row["seen"]} <= known


def test_no_mail_stands_in_two_files() -> None:
    texts = [{row["input"] for row in rows(name)} for name in MADE if name != "shots_fixed"]
    for i, some in enumerate(texts):
        for other in texts[i + 1 :]:
            assert some.isdisjoint(other)


def test_fixed_shots_are_worked_examples_of_the_bank() -> None:
    bank = {(row["input"], row["output"]) for row in rows("shots")}
    assert {(row["input"], row["output"]) for row in rows("shots_fixed")} <= bank


@pytest.mark.parametrize("draw", [generate.train, generate.holdout, generate.shots])
def test_every_value_of_a_true_form_stands_in_its_mail(draw) -> None:
    for mail in draw():
        for field, value in mail.form.items():
            assert value is None or value in mail.text, (mail.phrasing["id"], field)


def test_true_forms_fit_the_schema() -> None:
    schema = json.loads((HERE / "order.json").read_text(encoding="utf-8"))
    for row in rows("holdout"):
        jsonschema.validate(json.loads(row["reference"]), schema)


def test_train_holds_no_answers() -> None:
    assert all("reference" not in row and "output" not in row for row in rows("train"))


def test_holdout_keeps_nulls_decoys_and_mails_without_an_order() -> None:
    unseen = [row for row in rows("holdout") if not row["seen"]]
    forms = [json.loads(row["reference"]) for row in unseen]
    assert sum(all(value is None for value in form.values()) for form in forms) >= 0.1 * len(forms)
    assert sum(None in form.values() for form in forms) >= 0.2 * len(forms)
    assert sum(row["scenario"] in ("decoy_number", "two_products", "quoted_mail") for row in unseen) >= 0.15 * len(forms)


def test_judge_gold_labels_say_whether_answer_is_reference() -> None:
    gold = rows("judge_gold")
    for row in gold:
        assert (row["label"] == "right") == (row["answer"] == row["reference"])
        assert (row["error"] is None) == (row["label"] == "right")
    assert sum(row["label"] == "right" for row in gold) == len(gold) / 2
    assert len({row["error"] for row in gold}) >= 5
