"""`rayleigh check` and `rayleigh doctor`: what is missing is named, with what to do."""

import json
import socket

import pytest
from made_run import workspace
from typer.testing import CliRunner

from engine.contract.contract import Contract
from engine.inference.bundled import BUNDLED
from jobs.cli import app


@pytest.fixture
def toy(tmp_path):
    workspace(str(tmp_path / "run"), tmp_path)
    return str(tmp_path / "toy.yaml")


def ask(*words, code=0):
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stderr if code and "doctor" not in words else result.stdout


def test_check_says_what_is_ordered(toy):
    text = ask("check", toy)
    for part in ("count (decision)", "seeds.jsonl, CC0-1.0", "labels by rule", "1 answers a prompt", "exact_match 0.5"):
        assert part in text
    assert text.index("small: 1 layers of model") < text.index("large: 2 layers of model")


def test_check_json_is_the_resolved_contract(toy):
    found = ask("check", toy, "--json", "--set", "students.1.epochs=7")
    assert Contract.model_validate_json(found).students[1].epochs == 7


def test_check_unpacks_nothing(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYLEIGH_MODELS", str(tmp_path / "models"))
    ask("check", toy, "--set", f"students.0.init.prune.source={max(BUNDLED)}")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("prompts.sources.0.path=gone.jsonl", "prompts.sources.0.path: found nothing at"),
        ("prompts.holdout.path=memory://gone/holdout.jsonl", "prompts.holdout.path: found nothing at memory://gone/holdout.jsonl"),
        ("students.1.init.prune.source=gone", "students.1.init.prune.source: model 'gone': there is no folder"),
        ("students.1.init.prune.source=.", "has no config.json"),
        ("students.1.init.prune.layers=[0,2]", "init.prune.layers: [2] are not there; the model has 2 layers"),
        ("teachers.models.0.model={type: vllm, path: gone}", "teachers.models.0.model.path: model 'gone'"),
        (
            "prompts.synthesize=[{method: {type: evolve}, wanted: 1, model: {type: vllm, path: gone}}]",
            "prompts.synthesize.0.model.path: model 'gone'",
        ),
        (
            "teachers.models.0.model={type: endpoint, url: http://a/v1, path: m, key_env: RAYLEIGH_NO_KEY}",
            "teachers.models.0.model.key_env: the environment variable RAYLEIGH_NO_KEY holds no key",
        ),
        ("curation.semantic={model: gone}", "curation.semantic.model: model 'gone'"),
        ("name=Not A Name", "name: String should match pattern"),
        ("name", "found no '=', expected a.b=value"),
    ],
)
def test_check_names_what_is_not_there(toy, change, said):
    assert said in ask("check", toy, "--set", change, code=1)


def test_check_of_no_file_says_so(tmp_path):
    assert "there is no such file" in ask("check", str(tmp_path / "none.yaml"), code=1)


def test_doctor_json_has_the_documented_keys():
    result = CliRunner().invoke(app, ["doctor", "--json"], catch_exceptions=False)
    found = json.loads(result.stdout)
    assert found["profile"] == "laptop"
    names = [check["name"] for check in found["checks"]]
    assert {"packages", "memory", "logical cpus", "this folder", "models folder", "loopback ports"} <= set(names)
    for check in found["checks"]:
        assert set(check) == {"name", "ok", "found", "expected", "fix"}
        assert bool(check["fix"]) != check["ok"]
    assert result.exit_code == (0 if all(check["ok"] for check in found["checks"]) else 1)


def doctor(profile):
    """The checks that do not hold, by name."""
    text = ask("doctor", "--json", "--profile", str(profile), code=1)
    return {check["name"]: check for check in json.loads(text)["checks"] if not check["ok"]}


def test_doctor_too_few_logical_cpus_says_how_many(tmp_path):
    (tmp_path / "small.yaml").write_text("name: small\nray: {num_cpus: 2}\n")
    found = doctor(tmp_path / "small.yaml")["logical cpus"]
    assert found["found"].startswith("2 (") and "set ray.num_cpus to" in found["fix"]


def test_doctor_too_little_memory_says_what_to_lower(tmp_path):
    (tmp_path / "huge.yaml").write_text("name: huge\nray: {num_cpus: 5000}\nteacher: {actors: 1000, kv_cache_gib: 100}\n")
    assert "lower actors, kv_cache_gib" in doctor(tmp_path / "huge.yaml")["memory"]["fix"]


def test_doctor_models_folder_that_cannot_be_written_is_named(monkeypatch):
    monkeypatch.setenv("RAYLEIGH_MODELS", "/proc/models")
    text = ask("doctor", code=1)
    assert "models folder: make room, or give yourself the right to write in /proc/models, or set RAYLEIGH_MODELS" in text


def test_doctor_without_ports_says_so(monkeypatch):
    def refuse(self, address):
        raise OSError("address refused")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    assert "loopback ports: let this user bind ports" in ask("doctor", code=1)
