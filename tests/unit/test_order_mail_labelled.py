"""The labelled answers of the default task, and the mails of other seeds: true by construction, apart from the training mails."""

import json
from pathlib import Path

import pytest

from engine.checks import canonical
from engine.contract.load import load_contract
from jobs.bench import confidence
from jobs.contracts.order_mail import generate, labelled

ROWS = [json.loads(line) for line in (generate.HERE / labelled.FILE).read_text(encoding="utf-8").splitlines()]
MAILS = {mail.text: mail for mail in labelled.mails()}


def test_there_are_enough_and_most_are_real_answers() -> None:
    real = [row for row in ROWS if row["author"]]
    assert len(ROWS) >= 200 and len(real) >= len(ROWS) / 2
    assert sum(row["label"] == "wrong" for row in real) >= 5  # mistakes that the teacher really made
    assert len({row["error"] for row in ROWS}) >= 7


def test_labels_are_those_of_the_generator() -> None:
    for row in ROWS:
        true = canonical(generate.compact(MAILS[row["input"]].form))
        assert (row["label"] == "right") == (canonical(row["answer"]) == true) == (row["error"] is None)
        assert canonical(row["reference"]) == true and row["group"] == MAILS[row["input"]].phrasing["id"]


def test_mails_are_of_training_phrasings_and_in_no_other_file() -> None:
    assert {mail.phrasing["use"] for mail in MAILS.values()} == {"train"}
    for name in ("train", "holdout", "shots", "judge_gold"):
        lines = (generate.HERE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert not set(MAILS) & {json.loads(line)["input"] for line in lines}


def test_rows_are_made_again_from_the_samples() -> None:
    samples = {row["input"]: row["samples"][labelled.TEACHER] for row in ROWS}
    again = list(labelled.labelled(samples))
    assert again == [{name: value for name, value in row.items() if name != "scored"} for row in ROWS]


def test_a_mistake_is_called_by_the_first_field_that_is_wrong() -> None:
    mail = next(mail for mail in MAILS.values() if all(mail.form.values()))
    assert labelled.mistake(mail, generate.compact(mail.form)) is None
    assert labelled.mistake(mail, generate.compact({**mail.form, "product": None})) == "missed_product"
    assert labelled.mistake(mail, generate.compact({**mail.form, "order_number": "1", "product": None})) == "mistaken_order_number"


def test_contract_that_asks_for_them_is_the_default_without_a_judge(tmp_path: Path) -> None:
    labelled.ask(tmp_path)
    contract, smoke = (load_contract(path).contract for path in (tmp_path / "ask.yaml", labelled.CONTRACT))
    assert contract.teachers.models == smoke.teachers.models and not contract.judges.rubrics


@pytest.mark.parametrize("seed", [1, 2])
def test_mails_of_another_seed_have_the_same_phrasings_and_other_values(seed: int, tmp_path: Path) -> None:
    drawn, usual = confidence.mails(seed), generate.train()
    assert [mail.phrasing["id"] for mail in drawn] == [mail.phrasing["id"] for mail in usual]
    assert len({mail.text for mail in drawn} & {mail.text for mail in usual}) < 0.05 * len(usual)
    confidence.prepare(tmp_path, seed)
    assert len((tmp_path / "train.jsonl").read_text().splitlines()) == len(usual)
    assert load_contract(tmp_path / "contract.yaml").contract.judges == load_contract(confidence.CONTRACT).contract.judges
