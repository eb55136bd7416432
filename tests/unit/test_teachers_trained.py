"""A student of another run, or a release, as a teacher: where its weights are, how it is prompted, and what keys its answers."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml
from made_run import YAML, made_run, workspace
from safetensors.numpy import save_file
from test_teachers_modes import prompts
from typer.testing import CliRunner

from engine.contract.contract import Contract
from engine.contract.profile import Pool
from engine.contract.teachers import Teacher as TeacherSection
from engine.errors import MissingArtifact, ModelError
from engine.inference import identity
from engine.inference.client import ClientSpec
from engine.inference.locate import find
from engine.release.registry import CONTRACT, Package, Registry
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from engine.teachers.teacher import Teacher, TeacherSpec
from jobs.cli import app
from jobs.pipeline import pipeline
from jobs.steps import trained

INSTRUCTION = "Count what is there."


def student(run, **more):
    return TeacherSection.model_validate({"name": "old", "model": {"type": "student", "run": str(run), "name": "small"}, **more})


def write_model(folder, *, weight=1.0):
    """A folder that looks like a model: 64 positions, one tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 64, "num_hidden_layers": 1}))
    save_file({"w": np.full((2, 2), weight, np.float32)}, folder / "model.safetensors")


@pytest.fixture
def earlier(tmp_path):
    """A finished run whose student `small` was trained under an instruction, in bfloat16, to answer with an object."""
    work = made_run(str(tmp_path / "earlier"), tmp_path / "seeds")
    [unit] = work.contract.specialist.task_units
    own = unit.model_copy(update={"instruction": INSTRUCTION})
    specialist = work.contract.specialist.model_copy(update={"task_units": (own,)})
    work = replace(work, contract=work.contract.model_copy(update={"specialist": specialist}))
    work.save()
    write_model(tmp_path / "earlier" / "students" / "small" / "model")
    return work


def now():
    return Contract.model_validate(yaml.safe_load(YAML)).specialist


def test_student_of_another_run_is_prompted_as_it_was_trained(earlier, tmp_path):
    found = trained.asked(student("earlier"), now(), str(tmp_path))
    model = found.section.model
    assert model.type == "vllm" and model.path == str(tmp_path / "earlier/students/small/model")
    assert (model.dtype, model.max_model_len) == ("bfloat16", 64)
    assert found.systems == {"count": INSTRUCTION} and found.units["count"].instruction == INSTRUCTION


def test_answers_are_keyed_by_the_weights_and_not_by_the_path(earlier, tmp_path):
    shutil.copytree(tmp_path / "earlier", tmp_path / "moved")
    shutil.copytree(tmp_path / "earlier", tmp_path / "other")
    write_model(tmp_path / "other" / "students" / "small" / "model", weight=2.0)
    keys = {name: _key(trained.asked(student(name), now(), str(tmp_path)), tmp_path) for name in ("earlier", "moved", "other")}
    assert keys["earlier"] == keys["moved"] != keys["other"]


def test_a_run_and_a_registry_behind_a_url_are_the_same_teacher(earlier, tmp_path, s3, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where the cache of weights is
    registry = Registry(Folder(str(tmp_path / "registry")), "toy")
    _release(registry, earlier)
    remote = f"{s3}/{tmp_path.name}"
    Folder(s3).fs.put(f"{tmp_path}/", f"{remote}/", recursive=True)
    at_home, far = trained.asked(student("earlier"), now(), str(tmp_path)), trained.asked(student(f"{remote}/earlier"), now(), "/")
    assert far.section.model.path == f"{remote}/earlier/students/small/model" and far.section.model.max_model_len == 64
    assert far.systems == at_home.systems and _key(far, tmp_path) == _key(at_home, tmp_path)
    model = {"type": "release", "registry": f"{remote}/registry", "contract": "toy"}
    found = trained.asked(TeacherSection.model_validate({"name": "old", "model": model}), now(), "/")
    assert found.section.model.path.startswith(f"{remote}/registry/toy/releases/") and found.systems == at_home.systems


def _key(found, tmp_path):
    folder, path = Folder(str(tmp_path / "ledger")), found.section.model.path
    client = ClientSpec(found.section.model, Pool(), find(path, root="/", home=""), folder, folder, folder)
    teacher = Teacher(TeacherSpec(found.section, found.specialist, client, systems=found.systems))
    [row] = prompts({"task_unit": "count"}).to_pylist()
    [sample] = teacher._samples(row)
    assert teacher._request(sample).chat[0] == {"role": "system", "content": INSTRUCTION}
    return sample.answer_id


def test_release_is_found_by_its_fingerprint_and_by_being_the_champion(earlier, tmp_path):
    registry = Registry(Folder(str(tmp_path / "registry")), "toy")
    event = _release(registry, earlier)
    for version in (None, event.fingerprint[:8]):
        model = {"type": "release", "registry": "registry", "contract": "toy", "version": version}
        found = trained.asked(TeacherSection.model_validate({"name": "old", "model": model}), now(), str(tmp_path))
        assert found.section.model.path == f"{registry.folder.path}/releases/{event.fingerprint}/model"
        assert found.systems == {"count": INSTRUCTION}


def _release(registry, work):
    artifact = load_artifact(work.folder / "students/small")
    files = tuple(artifact.folder.measure(f"model/{name}") for name in ("config.json", "model.safetensors"))
    artifact = replace(artifact, record=artifact.record.model_copy(update={"files": files}))
    return registry.promote(artifact, Package("small", "ab" * 16, {CONTRACT: work.contract.model_dump_json()}))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"type": "student", "run": "gone", "name": "small"}, "no run is here"),
        ({"type": "student", "run": "earlier", "name": "tiny"}, "has no student 'tiny'; it has small, large"),
        ({"type": "release", "registry": "gone", "contract": "toy"}, "has 0 releases of a champion"),
        ({"type": "release", "registry": "gone", "contract": "toy", "version": "abcdef"}, "known: none"),
    ],
)
def test_model_that_is_not_there_is_named(earlier, tmp_path, model, words):
    section = TeacherSection.model_validate({"name": "old", "model": model})
    with pytest.raises(ModelError, match=words):
        trained.find(section.model, str(tmp_path))


def test_check_names_the_teacher_that_is_not_there(tmp_path):
    workspace(str(tmp_path / "run"), tmp_path)
    change = "teachers.models.0.model={type: student, run: gone, name: s}"
    result = CliRunner().invoke(app, ["check", str(tmp_path / "toy.yaml"), "--set", change])
    assert result.exit_code == 1 and "teachers.models.0.model: student gone/students/s: " in result.stderr


def test_check_of_a_student_that_is_there_names_it(earlier, tmp_path):
    change = f"teachers.models.0.model={{type: student, run: {tmp_path}/earlier, name: small}}"
    result = CliRunner().invoke(app, ["check", str(tmp_path / "seeds" / "toy.yaml"), "--set", change])
    assert result.exit_code == 0, result.output
    assert "earlier/students/small, 1 answers a prompt" in result.stdout


def test_other_weights_are_another_recipe_of_the_candidates(earlier, tmp_path):
    contract = Contract.model_validate({**yaml.safe_load(YAML), "teachers": {"mode": "direct", "models": [student("earlier")]}})
    work = workspace(str(tmp_path / "run"), tmp_path)
    work = replace(work, contract=contract)
    [job] = [job for job in pipeline(contract) if job.name == "candidates"]
    context = work.context(job, log=print, progress=print)
    before = trained.inputs(context)
    identity.fingerprint.cache_clear()
    write_model(tmp_path / "earlier" / "students" / "small" / "model", weight=3.0)
    assert before.keys() == trained.inputs(context).keys() == {"teachers.models.old.model"}
    assert before != trained.inputs(context)
    shutil.rmtree(tmp_path / "earlier")
    with pytest.raises(MissingArtifact, match="no run is here"):  # what was finished stays finished
        trained.inputs(context)
