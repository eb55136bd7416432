"""`rayleigh check` compiles each answer schema for the decoder, and says what is left to the check of the answer."""

import json

import pytest
from typer.testing import CliRunner

from engine.inference.decodable import decodable
from engine.inference.endpoint import EndpointEngine
from engine.inference.engine import Completion
from engine.inference.grammar_probe import grammar_problem
from jobs.cli import app
from tests.unit.made_run import workspace


@pytest.fixture
def toy(tmp_path):
    workspace(str(tmp_path / "run"), tmp_path)
    return str(tmp_path / "toy.yaml")


def check(toy, schema, *changes, code=0):
    options = [f"specialist.task_units.0.output.json_schema={json.dumps(schema)}", *changes]
    words = [word for option in options for word in ("--set", option)]
    result = CliRunner().invoke(app, ["check", toy, *words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


FORM = {"type": "object", "properties": {"tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True}}}
CHECKED, UNCHECKED = "judges.checks=[{type: json_schema}]", "judges.checks=[]"


def test_what_the_decoder_leaves_to_the_check_is_said(toy):
    text = check(toy, FORM, CHECKED)
    assert "properties.tags.uniqueItems: vLLM refuses it" in text and "the check json_schema holds this" in text


def test_without_the_check_it_is_said_that_nothing_holds_it(toy):
    assert "nothing else holds this: add {type: json_schema} to judges.checks" in check(toy, FORM, UNCHECKED)


def test_what_is_held_needs_no_word(toy):
    assert "decoder" not in check(toy, {"type": "object", "properties": {"a": {"type": "string"}}}, CHECKED)


def test_what_the_decoder_cannot_read_is_refused_with_its_place(toy):
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": r"^\101$"}}}
    text = check(toy, schema, CHECKED, code=1)
    assert "specialist.task_units.0.output.json_schema.properties.a: " in text and "write it in another way" in text


def test_a_schema_that_is_none_is_named_by_its_place(toy):
    schema = {"type": "object", "properties": {"a": {"type": "strng"}}}
    assert "specialist.task_units.0.output.json_schema.properties.a.type: found" in check(toy, schema, code=1)


def test_a_server_is_not_asked_and_that_is_said(toy):
    server = "teachers.models.0.model={type: endpoint, url: http://127.0.0.1:9/v1, path: m}"
    assert "http://127.0.0.1:9/v1: not known whether it takes the schemas" in check(toy, FORM, CHECKED, server)


def test_a_server_is_asked_once_a_schema_if_wanted(toy, monkeypatch):
    server = "teachers.models.0.model={type: endpoint, url: http://127.0.0.1:9/v1, path: m}"
    asked, ends = [], ["stop", "error"]

    def complete(self, requests, sampling):
        asked.extend(requests)
        return [Completion("{}", ends.pop(0), 1, 1, error="I know no uniqueItems")]

    monkeypatch.setattr(EndpointEngine, "complete", complete)
    options = ["--ask", "--set", server, "--set", f"specialist.task_units.0.output.json_schema={json.dumps(FORM)}"]
    result = CliRunner().invoke(app, ["check", toy, *options], catch_exceptions=False)
    assert result.exit_code == 0 and "http://127.0.0.1:9/v1 takes the schema of count" in result.stdout
    assert [request.json_schema for request in asked] == [FORM]
    result = CliRunner().invoke(app, ["check", toy, *options], catch_exceptions=False)
    assert result.exit_code == 1 and "teachers.models.0.model, with the schema of count" in result.stderr
    assert "I know no uniqueItems" in result.stderr


def test_a_misspelt_keyword_is_named(toy):
    text = check(toy, {"type": "object", "properties": {"a": {"type": "string", "maxlength": 3}}}, CHECKED)
    assert "properties.a.maxlength: is no keyword of JSON Schema and has no effect; perhaps maxLength" in text


def test_the_deepest_place_is_named():
    assert grammar_problem(decodable(FORM).schema) == ""
    assert grammar_problem({"type": "array", "items": {"type": "integer", "minimum": 0.5}}).startswith(".items: ")
