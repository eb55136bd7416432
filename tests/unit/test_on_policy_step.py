"""The step around the rounds: who scores under which prompt, and which changes begin the rounds anew."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_on_policy_contract import GRPO, KL, contract

from engine.contract.models import VllmModel
from engine.contract.profile import Profile
from engine.errors import ModelError
from engine.storage.folder import Folder
from jobs.steps import on_policy

UNITS = [{"name": "count", "kind": "decision", "instruction": "Count."}]


def model(folder: Path, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"num_hidden_layers": 1, "max_position_embeddings": 900}')
    (folder / "weights").write_text(str(config))
    return folder


def stages(folder: Path, section: Any, *, start: str = "start", dataset: str = "0", **changes: Any) -> on_policy.RayStages:
    ordered = contract(section, specialist__task_units=UNITS, **changes)
    context: Any = SimpleNamespace(
        contract=ordered, root=str(folder), models=str(folder), profile=Profile(name="p"), ledger=Folder(f"{folder}/ledger"),
        paid=Folder(f"{folder}/paid"), job=SimpleNamespace(needs=("dataset", "tokens")),
        artifact=lambda name: SimpleNamespace(fingerprint=dataset),
    )  # fmt: skip
    model(folder / "model")
    return on_policy.RayStages(context, ordered.students[0], model(folder / start, name=start))


@pytest.fixture(autouse=True)
def no_tokenizers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders of these models hold none."""
    monkeypatch.setattr(on_policy, "ending", lambda folder: ())


def test_rounds_begin_anew_where_what_they_depend_on_has_changed(tmp_path: Path) -> None:
    name = stages(tmp_path, GRPO).store.path
    assert name == stages(tmp_path, GRPO).store.path == stages(tmp_path, GRPO, students__0__workers=2).store.path
    others = [
        stages(tmp_path, {**GRPO, "rounds": 9}),
        stages(tmp_path, GRPO, start="other"),
        stages(tmp_path, GRPO, dataset="1"),
        stages(tmp_path, GRPO, judges__checks=[{"type": "regex", "pattern": "b"}]),
        stages(tmp_path, {**KL, "teacher": "source"}),
    ]
    assert len({name, *(each.store.path for each in others)}) == 6


@pytest.mark.parametrize(("teacher", "folder"), [("self", "start"), ("source", "model")])
def test_the_student_itself_or_its_source_scores_with_more_instruction(tmp_path: Path, teacher: str, folder: str) -> None:
    found = stages(tmp_path, {**KL, "teacher": teacher, "instruction": "You know all."})
    spec = found.teacher
    assert spec is not None and isinstance(spec.client.model, VllmModel)
    assert Path(spec.client.model.path) == tmp_path / folder and spec.client.model.max_model_len == 900
    assert spec.systems == {"count": "You know all.\n\nCount."} and spec.section.constraint == "none"
    assert spec.client.cap is None and spec.client.payee == "on_policy"


def test_a_teacher_of_the_contract_scores_under_its_own_prompt_and_budget(tmp_path: Path) -> None:
    capped = {"budget__teacher_tokens": 7, "teachers__models__0__system": "Read."}
    spec = stages(tmp_path, KL, **capped).teacher
    assert spec is not None and spec.teacher.system == "Read." and spec.systems == {} and spec.client.cap == 7
    assert stages(tmp_path, GRPO).teacher is None


def test_a_run_folder_that_is_no_file_system_is_refused(tmp_path: Path) -> None:
    found = stages(tmp_path, GRPO)
    found.context.__dict__["ledger"] = Folder("memory://run/ledger")
    with pytest.raises(ModelError, match="from a file system only"):
        on_policy.questions(found.context, found.student, SimpleNamespace())  # type: ignore[arg-type]
