"""The kinds of initial weights: exactly one in a contract, releases found in a registry, hashes that stay."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from engine.contract.init import ChampionRelease
from engine.contract.objectives import Objectives
from engine.contract.renames import older_json
from engine.contract.students import Student
from engine.errors import MissingArtifact, ModelError
from engine.records.release import RegistryEvent
from engine.storage.folder import Folder
from engine.students.init.tokenizer import description
from jobs.steps import initial_source

PRUNE = {"prune": {"source": "x", "layers": [0, 1]}}


def student(init: dict[str, Any], **changes: Any) -> Student:
    return Student.model_validate({"name": "s", "init": init, **changes})


@pytest.mark.parametrize(
    ("init", "found"), [({}, "none of them"), ({**PRUNE, "model": {"source": "y"}, "champion": {}}, "prune and model and champion")]
)
def test_exactly_one_kind_is_given(init: dict[str, Any], found: str) -> None:
    with pytest.raises(ValidationError, match=f"found {found}, expected exactly one of prune, .*model, champion"):
        student(init)


def test_a_contract_without_the_newer_keys_is_written_as_before() -> None:
    assert student(PRUNE).init.model_dump(mode="json") == PRUNE
    assert '"init":{"prune":{"source":"x","layers":[0,1]}}' in older_json(student(PRUNE), "students.*")


def test_students_of_one_source_share_a_tokenizer_unless_the_vocabulary_differs() -> None:
    whole = student({"model": {"source": "x"}})
    trimmed = [student({**PRUNE, "vocabulary": {"trim": order}}) for order in ({}, {"size": 9}, {"texts": ["a"]})]
    assert description(student(PRUNE)) == description(whole)
    assert description(trimmed[0]) == '{"source": "x", "vocabulary": {"trim": {}}}'
    pairs = {"objectives": Objectives.model_validate({"dpo": 1})}  # their texts are part of what it is trimmed to
    assert len({description(each) for each in (whole, *trimmed, trimmed[0].model_copy(update=pairs))}) == 5
    assert description(whole.model_copy(update=pairs)) == description(whole)


@pytest.mark.parametrize(
    ("init", "said"),
    [
        (PRUNE, "2 layers of x (0, 1)"),
        ({"model": {"source": "y"}, "adapter": {"rank": 4}}, "all of y with lora of rank 4"),
        ({**PRUNE, "vocabulary": {}, "adapter": {}}, "2 layers of x (0, 1) with lora of rank 16 and a trimmed vocabulary"),
        ({"champion": {}}, "the contract's release (champion)"),
    ],
)
def test_summary_is_for_people(init: dict[str, Any], said: str) -> None:
    assert student(init).init.summary == said


def released(registry: Folder, contract: str, *fingerprints: str) -> None:
    """Write the events of releases; the last one is the champion."""
    for number, fingerprint in enumerate(fingerprints):
        event = RegistryEvent(
            id=f"{number:012x}", kind="promote", contract=contract, student=f"s{number}", fingerprint=fingerprint,
            release=f"releases/{fingerprint}", time="2026-01-01T00:00:00Z",
        )  # fmt: skip
        registry.write(f"{contract}/history/{number}.json", event.model_dump_json().encode())
        registry.write(f"{contract}/champion.json", event.model_dump_json().encode())


def test_the_champion_or_a_version_is_found(tmp_path: Path) -> None:
    run, other = Folder(f"{tmp_path}/runs/smoke"), "elsewhere/registry"
    released(Folder(f"{tmp_path}/runs/registry"), "mine", "aaaaaa1", "bbbbbb2")
    released(Folder(f"{tmp_path}/{other}"), "theirs", "cccccc3")
    options: Any = {"run": run, "contract": "mine", "root": str(tmp_path)}
    found = [
        initial_source.release(ChampionRelease(**keys), **options)
        for keys in ({}, {"version": "aaaaaa"}, {"registry": other, "contract": "theirs"})
    ]
    assert [each.fingerprint for each in found] == ["bbbbbb2", "aaaaaa1", "cccccc3"]
    assert all(each.place.endswith(f"releases/{each.fingerprint}/model") for each in found)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"contract": "new"}, "new has 0 releases of a champion, expected one; known: none. Promote a student first"),
        ({"version": "dddddd"}, r"0 releases of dddddd, expected one; known: aaaaaa1 \(s0\)"),
    ],
)
def test_a_release_that_is_not_there_is_named_with_those_that_are(section: dict[str, Any], said: str, tmp_path: Path) -> None:
    released(Folder(f"{tmp_path}/runs/registry"), "mine", "aaaaaa1")
    run = Folder(f"{tmp_path}/runs/smoke")
    with pytest.raises(ModelError, match=said):
        initial_source.release(ChampionRelease(**section), run=run, contract="mine", root=str(tmp_path))


def test_the_release_is_part_of_the_identity(tmp_path: Path) -> None:
    contract = SimpleNamespace(name="mine", students=[student({"champion": {}})])
    context: Any = SimpleNamespace(
        job=SimpleNamespace(name="students/s"), contract=contract, run=Folder(f"{tmp_path}/runs/smoke"), root=str(tmp_path)
    )
    with pytest.raises(MissingArtifact, match="Promote a student first"):
        initial_source.identity(context)
    for fingerprint in ("aaaaaa1", "bbbbbb2"):
        released(Folder(f"{tmp_path}/runs/registry"), "mine", fingerprint)
        assert initial_source.identity(context) == {"champion": fingerprint}
