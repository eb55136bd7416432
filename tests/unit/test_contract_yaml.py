"""What a hurried author writes in YAML: it is read as it is meant, or refused with its place, by the command `check`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from made_run import YAML, workspace
from typer.testing import CliRunner

from jobs.cli import app

Ask = Callable[..., str]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Return what checks the toy contract with a part of its text replaced, and further words of the command."""
    workspace(str(tmp_path / "run"), tmp_path)

    def check(old: str = "", new: str = "", *words: str, code: int = 1) -> str:
        assert old in YAML
        (tmp_path / "toy.yaml").write_text(YAML.replace(old, new, 1) if old else YAML + new)
        result = CliRunner().invoke(app, ["check", str(tmp_path / "toy.yaml"), *words], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.stderr if code else result.stdout

    return check


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "name: other\n", "found the key 'name' twice, first on line 2; take one of them out"),
        ("{name: small,", "{name: small, epochs: 2, epochs: 9,", 'toy.yaml", line 11, column 30'),
        ("", "x: &a [*a]\n", "the anchor &a holds itself"),
        ("{name: small,", "{name: small, seed: 010,", "found 010: a leading zero makes a number octal for some readers"),
        ("{name: small,", "{name: small, seed: 089,", "found 089: a leading zero"),
        ("goal: count", "goal: " + "[" * 2000 + "]" * 2000, "is not YAML: it is nested too deeply"),
        ("goal: count", "goal: !!int abc", "is not YAML: a value is not what its tag says"),
        ("gate: {exact_match: 0.5, by: point}", "gate: !include toy.yaml", "toy.yaml: includes itself, through"),
        ("judges: {}", "judges:", "judges: found nothing, expected a mapping of keys. Write its keys below it, or {}"),
        ("goal: count", "goal: 3", "specialist.goal: found 3, expected text. Quote it if it is text."),
        ("path: seeds.jsonl", "path: ''", "prompts.sources.0.path: String should have at least 1 character"),
        ("{type: fake}", "{type: endpoint, url: 'http://a b/v1', path: m}", "teachers.models.0.model.url: String should match"),
    ],
)  # fmt: skip
def test_yaml_that_says_two_things_or_none_is_refused_with_its_place(ask: Ask, old: str, new: str, said: str) -> None:
    assert said in ask(old, new)


def test_no_and_dates_and_times_are_the_text_that_they_are(ask: Ask) -> None:
    schema = "output: {json_schema: {type: object, properties: {a: {enum: [yes, no, 2024-01-01, 1:30]}}, required: [a]}}"
    niche = "goal: off, niche: {languages: [en, no]}, task_units: [{name: count, kind: decision, " + schema + "}]"
    found = json.loads(ask("goal: count, task_units: [{name: count, kind: decision}]", niche, "--json", code=0))
    assert found["specialist"]["goal"] == "off" and found["specialist"]["niche"]["languages"] == ["en", "no"]
    enum = found["specialist"]["task_units"][0]["output"]["json_schema"]["properties"]["a"]["enum"]
    assert enum == ["yes", "no", "2024-01-01", "1:30"]


def test_numbers_may_have_an_exponent_and_no_point(ask: Ask) -> None:
    schema = "output: {json_schema: {type: object, properties: {a: {type: number, minimum: 1e-3}}, required: [a]}}"
    unit = "goal: count, task_units: [{name: count, kind: decision, " + schema + "}]"
    found = json.loads(ask("goal: count, task_units: [{name: count, kind: decision}]", unit, "--json", code=0))
    assert found["specialist"]["task_units"][0]["output"]["json_schema"]["properties"]["a"]["minimum"] == 0.001
    found = json.loads(ask("{name: small,", "{name: small, learning_rate: 1e-4, objectives: {sft: 5E-1},", "--json", code=0))
    assert (found["students"][0]["learning_rate"], found["students"][0]["objectives"]["sft"]) == (0.0001, 0.5)


def test_yes_and_off_are_still_booleans_where_one_is_wanted(ask: Ask) -> None:
    found = json.loads(ask("{name: small,", "{name: small, packing: yes, freeze_embeddings: off,", "--json", code=0))
    assert found["students"][0]["packing"] is True and found["students"][0]["freeze_embeddings"] is False


def test_anchors_and_merged_keys_are_read(ask: Ask) -> None:
    text = "- &s {name: small, epochs: 7, init: {prune: {source: model, layers: [0]}}}\n  - {<<: *s, name: other, seed: 1}"
    found = json.loads(ask("- {name: small, init: {prune: {source: model, layers: [0]}}}", text, "--json", code=0))
    assert [(each["name"], each["epochs"], each["seed"]) for each in found["students"][:2]] == [("small", 7, 0), ("other", 7, 1)]


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1e400"])
@pytest.mark.parametrize("key", ["students.0.learning_rate", "students.0.objectives.sft", "budget.price.per_machine_hour"])
def test_number_that_is_not_finite_is_refused(ask: Ask, key: str, value: str) -> None:
    assert "expected a finite number" in ask("", "", "--set", f"{key}={value}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("students.0.epochs=true", "students.0.epochs: found true, expected a number"),
        ("students.0.zero=true", "students.0.zero: found true, expected a number"),
        ("students.0.init.prune.layers=[true]", "students.0.init.prune.layers.0: found true, expected a number"),
        ("students.0.learning_rate=yes", "students.0.learning_rate: Input should be a valid number"),
        ("students.0.max_seconds=1:30", "students.0.max_seconds: Input should be a valid number"),
        ("students.0.seed=99999999999999999999", "seed: found 99999999999999999999, expected a number of at most 64 bits"),
        ("students.0.init={shrink: {source: model, to: 9" + "9" * 400 + "B}}", "expected a number of parameters"),
        ("students.0.epochs={a: 1, a: 2}", "is not YAML: found the key 'a' twice"),
        ("capture={teachers: [[t]]}", "capture.teachers: found [['t']], expected a list of names of teachers"),
        ("capture={teachers: t}", "capture.teachers: found 't', expected a list of names of teachers"),
        ("students.0.exports=[{type: gguf, quantize: q3}]", "students.0.exports.0.quantize: Input should be 'f16'"),
        ("students.0.objectives={by_kind: {refusals: {sft: 1}}}", "objectives.by_kind.refusals: Input should be 'answer'"),
        ("specialist.task_units.0.output={json_schema: {const: !!binary aGk=}}", "found a bytes, which JSON does not have"),
    ],
)  # fmt: skip
def test_value_that_a_key_cannot_have_is_refused_alone_and_by_its_place(ask: Ask, change: str, said: str) -> None:
    message = ask("", "", "--set", change)
    assert said in message and ("1 problem(s)" in message or "--set" in message)


@pytest.mark.parametrize("name", ["loop", "n" * 300, '"a\\0b"'])
def test_source_that_is_no_path_is_refused(ask: Ask, tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert "students.0.init.model.source: model" in ask("", "", "--set", f"students.0.init={{model: {{source: {name}}}}}")


@pytest.mark.parametrize("name", ["loop", "n" * 300])
def test_contract_that_is_no_path_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    result = CliRunner().invoke(app, ["check", str(tmp_path / name)], catch_exceptions=False)
    assert result.exit_code == 1 and "cannot be read as UTF-8 text" in result.stderr
