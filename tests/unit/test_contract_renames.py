"""Older names in contracts and recipes: replaced at their place, and nowhere else."""

import pytest

from engine.contract import renames
from engine.contract.renames import Rename, RenamedValue, promoted, renamed_in


@pytest.fixture(autouse=True)
def names(monkeypatch):
    keys = (
        Rename("judges.floor", "minimum"),
        Rename("judges.floor.*.ending", "finish_reason"),
        Rename("students.*.size", "layers"),
    )
    monkeypatch.setattr(renames, "RENAMES", keys)
    monkeypatch.setattr(renames, "RENAMED_VALUES", (RenamedValue("students.*.order", "tier", "confidence_tier"),))


def test_a_key_below_a_renamed_key_is_renamed_too():
    contract = {"judges": {"floor": [{"ending": ["stop"]}, {"ending": []}], "ending": 1}}
    assert promoted(contract)[0] == {"judges": {"minimum": [{"finish_reason": ["stop"]}, {"finish_reason": []}], "ending": 1}}
    assert contract["judges"]["floor"]  # the caller's stays as it is


@pytest.mark.parametrize(
    ("path", "older", "today"),
    [
        ("students.s", {"size": 1, "order": "tier"}, ({"layers": 1, "order": "confidence_tier"}, "students.s")),
        ("students.s", {"size": 1, "order": "none"}, ({"layers": 1, "order": "none"}, "students.s")),
        ("judges.floor", [{"ending": []}], ([{"finish_reason": []}], "judges.minimum")),
        ("budget.cap", 7, (7, "budget.cap")),
    ],
)
def test_a_part_of_a_recipe_is_promoted_at_its_path(path, older, today):
    assert promoted(older, path) == today


def test_a_contract_file_is_told_each_older_name():
    _, sentences = renamed_in({"students": [{"size": 1}, {"order": "tier"}]})
    assert sentences == [
        "students.0.size: was renamed to layers.",
        "students.1.order: the value tier was renamed to confidence_tier.",
    ]
