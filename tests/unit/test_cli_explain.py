"""`rayleigh explain` says what a key is, where it is, and which jobs a change of it runs again."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from engine.contract.contract import Contract
from jobs.cli import app
from jobs.commands.explain import as_text, explain


def ask(*words, code=0):
    result = CliRunner().invoke(app, ["explain", *words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


@pytest.mark.parametrize("wanted", ["students.epochs", "students.0.epochs", "students.N.epochs", "students.small.epochs"])
def test_items_of_lists_may_be_called_as_on_the_command_line(wanted):
    [key] = explain(wanted).keys
    assert (key.path, key.default, key.type) == ("students.N.epochs", "3", "int > 0")


def test_variant_is_chosen_by_its_type():
    [key] = explain("judges.checks.numeric.max").keys
    assert key.path == "judges.checks.N (type: numeric).max"
    assert yaml.safe_load(key.yaml) == {"judges": {"checks": [{"type": "numeric", "max": None}]}}


def test_end_of_a_path_names_every_key_that_has_it():
    paths = {key.path for key in explain("epochs").keys}
    assert {"students.N.epochs", "students.N.objectives.process.epochs"} <= paths
    assert [key.path for key in explain("accept.confidence").keys] == ["judges.accept.confidence"]


def test_closed_set_is_listed():
    [key] = explain("teachers.mode").keys
    assert set(map(json.loads, key.choices)) == {"direct", "judged", "competition", "experts", "tools"}


@pytest.mark.parametrize(
    ("wanted", "read_by", "first_rerun"),
    [
        ("judges.accept.confidence", ("candidates",), "candidates"),
        ("curation.minhash.threshold", ("dataset",), "dataset"),
        ("students.epochs", ("students/*",), "students/*"),
        ("students.exports.gguf.quantize", ("exports/*/*",), "exports/*/*"),
        ("gate.exact_match", ("reports",), "reports"),
        ("prompts.copies.threshold", ("prompts",), "prompts"),
    ],
)
def test_jobs_that_a_change_reruns_are_the_reader_and_all_behind_it(wanted, read_by, first_rerun):
    order = ["prompts", "candidates", "dataset", "tokens", "capture", "students/*", "exports/*/*", "reports"]
    [key] = explain(wanted).keys
    behind = order[order.index(first_rerun) :]
    assert key.read_by == read_by
    assert list(key.reruns) == behind


@pytest.mark.parametrize("wanted", ["students.workers", "students.micro_batch_size", "teacher.gpus"])
def test_what_only_says_where_a_run_runs_reruns_nothing(wanted):
    keys = explain(wanted).keys
    assert keys and all(key.reruns == () for key in keys)
    assert "part of no recipe" in as_text(explain(wanted))


def test_hint_to_grade_again_comes_with_keys_of_the_judge_alone():
    assert "rayleigh rejudge" in ask("judges.accept.confidence")
    assert "rejudge" not in ask("curation.minhash.threshold")


def test_unknown_key_names_the_nearest_and_a_renamed_one_its_new_name():
    error = ask("students.epoks", code=1)
    assert error.startswith("InputError: students.epoks: found no such key") and "students.N.epochs" in error
    assert "students.N.batch was renamed to batch_size." in ask("students.batch", code=1)


def test_every_key_of_the_root_is_explained_in_both_forms():
    for name in Contract.model_fields:
        printed = json.loads(ask(name, "--json"))
        assert name in {key["path"] for key in printed["keys"]} and ask(name)
