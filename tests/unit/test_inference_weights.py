"""Models behind URLs and in packages of each node: found, known by the hash of a local folder, fetched where they are loaded."""

import json
import pickle
from pathlib import Path

import pytest
from made_run import workspace
from typer.testing import CliRunner

from engine.contract.models import EndpointModel, VllmModel
from engine.contract.profile import WeightsCache
from engine.errors import ModelError, StorageError
from engine.inference import bundled, locate
from engine.inference.bundled import BUNDLED, Bundle
from engine.inference.identity import content_of, identity
from engine.inference.weights import described, local
from engine.storage.folder import Folder
from jobs.cli import app

MODEL = VllmModel(type="vllm", path="model")
FILES = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"w" * 1000}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    for name, data in FILES.items():
        (tmp_path / "model" / name).write_bytes(data)
    return tmp_path / "model"


@pytest.fixture
def url(s3, tmp_path):
    store = Folder(f"{s3}/{tmp_path.name}/model")
    for name, data in FILES.items():
        store.write(name, data)
    return store.url


@pytest.fixture
def cache(tmp_path):
    return WeightsCache(folder=str(tmp_path / "cache"))


def find(path, cache):
    return locate.find(path, root="/nowhere", home="/nowhere", cache=cache)


def names(cache):
    return sorted(path.name for path in Path(cache.folder).rglob("*") if path.is_file() and path.parent != Path(cache.folder))


def test_models_of_servers_with_one_tokenizer_are_told_apart_by_their_names(folder):
    big, small = (EndpointModel(type="endpoint", url="http://a/v1", path=name) for name in ("big", "small"))
    assert len({identity(big, folder), identity(small, folder), identity(big, None), identity(small, None)}) == 4
    moved = big.model_copy(update={"url": "http://b/v1"})
    assert identity(moved, folder) == identity(big, folder)
    # As ever: without a tokenizer's folder the name alone was hashed, and paid answers hold this.
    revised = EndpointModel(type="endpoint", url="http://a/v1", path="m", revision="2")
    assert identity(revised, None) == "c106f4e28366cdda5c772d844fd87663"


def test_model_behind_a_url_is_that_of_a_local_folder(folder, url, cache):
    place = find(url, cache)
    assert names(cache) == []  # the driver has fetched nothing
    assert identity(MODEL, place) == identity(MODEL, folder)  # so what was paid for with one is found with the other
    assert names(cache) == []  # samples were read behind the URL
    local(place)
    assert names(cache) == sorted(FILES) and identity(MODEL, place) == identity(MODEL, folder)


def test_large_file_behind_a_url_has_the_hash_of_the_local_one(folder, url, cache):
    large = bytes(range(256)) * (140 * 1024) + b"end"  # 35 MiB, of which samples are read
    (folder / "model.safetensors").write_bytes(large)
    Folder(url).write("model.safetensors", large)
    assert identity(MODEL, find(url, cache)) == identity(MODEL, folder) and names(cache) == []


def test_place_of_a_model_is_sent_to_workers(url, cache):
    sent = pickle.loads(pickle.dumps(find(url, cache)))
    assert (local(sent) / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_what_describes_a_model_is_fetched_without_its_weights(url, cache):
    described(find(url, cache))
    assert names(cache) == ["config.json", "tokenizer.json"]


def test_content_behind_a_url_is_known_without_fetching_it(url, cache):
    before = content_of(find(url, cache))
    assert names(cache) == [] and content_of(find(url, cache)) == before
    Folder(url).write("model.safetensors", b"v" * 1000)
    assert content_of(find(url, cache)) != before


def test_url_without_a_model_says_what_is_there(url, cache):
    Folder(url).remove("config.json")
    with pytest.raises(ModelError, match=r"found model.safetensors, tokenizer.json, expected the files of a Hugging Face folder"):
        find(url, cache)
    with pytest.raises(ModelError, match=r"/gone': found no file, expected"):
        find(f"{url}/gone", cache)
    with pytest.raises(ModelError, match=r"tokenizer '.*/gone': there is no file"):
        locate.find_tokenizer(f"{url}/gone", root="/nowhere", cache=cache)


def test_url_of_an_unknown_kind_says_so(cache):
    with pytest.raises(ModelError, match=r"nothing://here.*cannot be opened"):
        find("nothing://here", cache)


def test_file_that_changed_after_the_driver_had_listed_it_is_refused(url, cache):
    place = find(url, cache)
    Folder(url).write("model.safetensors", b"v" * 1000)
    with pytest.raises(StorageError, match=r"model.safetensors: has 1000 bytes with SHA-256 .*, expected 1000 bytes with"):
        local(place)


def test_bundled_model_is_unpacked_in_the_home_of_each_node(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(BUNDLED, "tiny", Bundle("tiny-carrier", "tiny_carrier", "model", bundled.copy))
    monkeypatch.setattr(bundled, "packaged_weights", lambda name: folder)
    for user in ("driver", "worker"):
        (tmp_path / user).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "driver"))
    place = locate.find("tiny", root="", home=str(tmp_path / "driver" / "models"))
    monkeypatch.setenv("HOME", str(tmp_path / "worker"))
    assert local(place) == tmp_path / "worker" / "models" / "tiny"
    monkeypatch.setenv("HOME", str(tmp_path / "driver"))
    assert local(place) == tmp_path / "driver" / "models" / "tiny"


def test_check_of_a_contract_fetches_no_weights(tmp_path, s3, monkeypatch):
    workspace(str(tmp_path / "run"), tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    store = Folder(f"{s3}/{tmp_path.name}/source")
    for path in (tmp_path / "model").iterdir():
        store.write(path.name, path.read_bytes())
    store.write("model.safetensors", b"w")
    change = f"students.0.init.prune.source={store}"
    result = CliRunner().invoke(app, ["check", str(tmp_path / "toy.yaml"), "--set", change], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    kept = [path for path in (tmp_path / ".cache/rayleigh/weights").rglob("*") if path.is_file()]
    assert "config.json" in {path.name for path in kept} and "model.safetensors" not in {path.name for path in kept}
    result = CliRunner().invoke(app, ["check", str(tmp_path / "toy.yaml"), "--set", f"{change}/gone"])
    assert result.exit_code == 1
    assert f"students.0.init.prune.source: model '{store}/gone': found no file" in result.stderr


def test_layers_of_a_source_behind_a_url_are_checked_before_anything_runs(tmp_path, s3, monkeypatch):
    workspace(str(tmp_path / "run"), tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    store = Folder(f"{s3}/{tmp_path.name}/source")
    for path in (tmp_path / "model").iterdir():
        store.write(path.name, path.read_bytes())
    assert json.loads((tmp_path / "model" / "config.json").read_text())["num_hidden_layers"] == 2
    changes = [f"students.0.init.prune.source={store}", "students.0.init.prune.layers=[0,2]"]
    words = [word for change in changes for word in ("--set", change)]
    result = CliRunner().invoke(app, ["check", str(tmp_path / "toy.yaml"), *words])
    assert result.exit_code == 1 and "[2] are not there; the model has 2 layers" in result.stderr
