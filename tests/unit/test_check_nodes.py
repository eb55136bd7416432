"""`rayleigh check --profile`: what nodes of a cluster read by path is listed; what needs a shared mount is refused at the start."""

import json

import pytest
import yaml
from made_run import workspace
from typer.testing import CliRunner

from engine.contract.contract import Contract
from engine.errors import InputError
from engine.storage.folder import Folder
from jobs.cli import app
from jobs.commands.check_nodes import require_run_folder

KL = {"rounds": 1, "objective": "on_policy_kl", "teacher": "source"}


@pytest.fixture
def toy(tmp_path):
    workspace(str(tmp_path / "run"), tmp_path)
    return tmp_path / "toy.yaml"


def ask(toy, address):
    profile = toy.parent / "profile.yaml"
    nodes = [{"name": "cpu", "cpus": 64, "min": 1, "max": 2}]
    profile.write_text(yaml.safe_dump({"name": "mine", "ray": {"address": address}, "nodes": nodes}))
    result = CliRunner().invoke(app, ["check", str(toy), "--profile", str(profile)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_paths_that_nodes_of_a_cluster_read_are_listed(toy):
    text = ask(toy, "auto")
    assert "Read by path, which every node must have" in text
    for key in ("prompts.sources.0.path", "prompts.holdout.path", "students.0.init.prune.source"):
        assert key in text


def test_one_machine_has_nothing_to_list(toy):
    assert "Read by path" not in ask(toy, "local")


def order(toy, **student):
    loaded = CliRunner().invoke(app, ["check", str(toy), "--json"], catch_exceptions=False)
    raw = json.loads(loaded.stdout)
    raw["students"][0] |= student
    return Contract.model_validate(raw)


def test_rounds_with_a_run_folder_behind_a_url_are_refused(toy):
    with pytest.raises(InputError, match=r"students.0.on_policy: .* found the run folder memory://runs/a\. Use a run folder on"):
        require_run_folder(order(toy, on_policy=KL), Folder("memory://runs/a"))
    require_run_folder(order(toy, on_policy=KL), Folder(str(toy.parent)))
    require_run_folder(order(toy), Folder("memory://runs/a"))
