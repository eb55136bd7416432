"""`make cases`: one small input for each kind of fault that users of such tools report, through the command, with what is right."""

import json
import math
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.rows import CANDIDATE
from tests.line.cases_world import TEXTS, Desk, accepted, endpoint, refused, schema_of
from tests.line.data_world import candidate_rows, put
from tests.refusing_server import ANSWER, Server

pytestmark = [pytest.mark.cases, pytest.mark.usefixtures("cluster")]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running
        running.shutdown()


# Models and servers

TURNS = "{% for m in messages %}<s>{{ m['role'] }} {{ m['content'] }}</s>{% endfor %}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system turns here') }}{% endif %}" + TURNS
ALTERNATE = (
    "{% for m in messages %}{% if not loop.first and m['role'] == loop.previtem['role'] %}"
    "{{ raise_exception('Turns must alternate') }}{% endif %}{% endfor %}" + TURNS
)


def tiny_llama(folder: Path, template: str | None) -> None:
    """Write a random Llama of two layers with the tokenizer of the packaged model and a chat template."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from jobs.places import models_home

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(f"{models_home()}/smollm2-135m-instruct")
    sizes = {"hidden_size": 128, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("template", "system", "words"), [(None, "", "chat_template is not set"), (NO_SYSTEM, "Be brief.", "No system turns here")]
)
def test_a_template_that_refuses_every_chat_stops_the_run(desk: Desk, template: str | None, system: str, words: str) -> None:
    tiny_llama(desk.folder / "m", template)
    teacher = {"system": system, "sampling": {"max_tokens": 4}}
    desk.contract(TEXTS, model={"type": "vllm", "path": "m", "max_model_len": 256}, teacher=teacher, unit={"instruction": ""})
    refused(desk.check(), "ModelError", words, "teachers.models.N.system")
    refused(desk.run("candidates"), "ModelError", words, "teachers.models.N.system")


def test_system_turns_are_merged_and_one_refused_chat_fails_its_row_alone(desk: Desk) -> None:
    tiny_llama(desk.folder / "m", ALTERNATE)
    chats = [[{"role": "system", "content": "Be kind."}, {"role": "user", "content": text}] for text in TEXTS[:5]]
    chats[2].append(chats[2][1])
    model, teacher = {"type": "vllm", "path": "m", "max_model_len": 256}, {"system": "Be brief.", "sampling": {"max_tokens": 4}}
    desk.contract([{"chat": chat} for chat in chats], {"messages": "chat"}, model=model, teacher=teacher)
    desk.run("candidates")
    rows = desk.rows("candidates")
    errors = [row["error"] for row in rows if row["finish_reason"] == "error"]
    assert len(errors) == 1 and "Turns must alternate" in errors[0] and len(rows) == 5
    assert all(row["tokens_out"] for row in rows if row["finish_reason"] != "error")


def test_a_server_that_refuses_each_request_stops_the_run_and_a_renamed_parameter_mends_it(desk: Desk, server: Server) -> None:
    server.rejects = ("max_tokens", "seed")
    desk.contract(TEXTS, model=endpoint(server))
    refused(desk.run("candidates"), "ModelError", "max_tokens", "seed", "rename: {max_tokens: max_completion_tokens}")
    rows = desk.answers(TEXTS, model=endpoint(server, rename={"max_tokens": "max_completion_tokens"}, omit=["seed"]))
    assert [row["answer"] for row in rows] == ["yes"] * 10
    assert "max_completion_tokens" in server.bodies[-1] and "seed" not in server.bodies[-1]


REPLIES = [  # message, finish reason -> answer, reasoning, finish_reason of the row
    ({"content": "yes", "reasoning_content": "Hm."}, "stop", ("yes", "Hm.", "stop")),
    ({"content": "yes", "reasoning": "Hm."}, "stop", ("yes", "Hm.", "stop")),
    ({"content": None, "reasoning_content": "Hm."}, "length", ("", "Hm.", "length")),
    ({"content": [{"type": "text", "text": "y"}, {"type": "text", "text": "es"}]}, "stop", ("yes", "", "stop")),
    ({"content": "yes"}, None, ("yes", "", "stop")),
    ({"content": "yes"}, "eos_token", ("yes", "", "stop")),
    ({"content": None, "refusal": "I cannot."}, "stop", ("I cannot.", "", "refused")),
]


def test_fields_of_a_reply(desk: Desk, server: Server) -> None:
    server.by_prompt = {
        text: {**ANSWER, "choices": [{"message": message, "finish_reason": reason}]}
        for text, (message, reason, _) in zip(TEXTS, REPLIES, strict=False)
    }
    rows = {row["text"]: row for row in desk.answers(TEXTS, model=endpoint(server))}
    for text, (_, _, expected) in zip(TEXTS, REPLIES, strict=False):
        assert tuple(rows[text][column] for column in ("answer", "reasoning", "finish_reason")) == expected


SCHEMAS = [  # schema -> words of the refusal
    ({"type": "object", "properties": {"a": {"type": "strnig"}}}, "properties.a.type"),
    ({"type": "objekt"}, "json_schema.type"),
    ({"type": "object", "properties": {"a": {"$ref": "https://schemas.invalid/a.json"}}}, "properties.a"),
    ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a", "note"], "additionalProperties": False}, "note"),
]


@pytest.mark.parametrize(("schema", "word"), SCHEMAS)
def test_a_schema_that_is_none_or_that_nothing_fits_is_refused(desk: Desk, schema: Any, word: str) -> None:
    desk.contract(TEXTS, unit={"output": {"json_schema": schema}}, checks=[{"type": "json_schema"}])
    refused(desk.check(), "ContractError", word)


LEFT = {  # a property that the decoder cannot hold exactly, a value that the check accepts, and one that it does not
    "tags": ({"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True}, ["a", "b"], ["a", "a"]),
    "count": ({"type": "integer", "minimum": 0.5}, 1, 0),
    "note": ({"type": "string", "maxLength": 20}, 'a "b" \\ c\nd', "a" * 21),
    "quote": ({"type": "string", "pattern": '^say "[a-z]+"$'}, 'say "so"', "say so"),
}


def test_what_a_decoder_cannot_hold_is_said_and_checked(desk: Desk) -> None:
    checks, output = [{"type": "json_schema"}], schema_of(**{name: schema for name, (schema, _, _) in LEFT.items()})
    right = {name: good for name, (_, good, _) in LEFT.items()}
    replies = [json.dumps(right), *(json.dumps({**right, name: bad}) for name, (_, _, bad) in LEFT.items())]
    rows = desk.answers(TEXTS, unit={"output": output}, checks=checks, model={"type": "fake", "replies": replies})
    assert {row["answer"]: row["pool"] == "train" for row in rows} == {reply: reply == replies[0] for reply in replies}
    desk.contract(TEXTS, unit={"output": output}, checks=checks, model={"type": "vllm", "path": "smollm2-135m-instruct"})
    checked = desk.check()
    accepted(checked)
    assert "properties.tags.uniqueItems: vLLM refuses it" in checked.output


# Conversations and texts

CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "look"}}]}


def test_forms_of_a_conversation_are_read_as_the_same_prompt(desk: Desk) -> None:
    said = [("system", "Be brief."), ("user", "One?"), ("assistant", "Yes."), ("user", "Two?")]
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    forms = [
        [{"role": role, "content": text} for role, text in said],
        [{"from": names[role], "value": text} for role, text in said],
        [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in said],
        [{"role": role.replace("system", "developer"), "content": text} for role, text in said],
    ]
    calls = [
        forms[0][0],
        forms[0][1],
        CALL,
        {"role": "tool", "tool_call_id": "1", "content": "4"},
        {"role": "user", "content": "So?"},
    ]
    [row] = desk.prompts([{"chat": chat} for chat in [*forms, calls]], {"messages": "chat"})
    assert [(turn["role"], turn["content"]) for turn in row["messages"]] == said
    assert [row["reason"] for row in desk.rows("prompts", "rejects")] == ["tool_calls"]


def test_an_answer_that_ends_the_conversation_is_no_part_of_the_prompt(desk: Desk) -> None:
    chats = [{"chat": [{"role": "user", "content": text}, {"role": "assistant", "content": "Old."}]} for text in TEXTS]
    rows = desk.prompts(chats, {"messages": "chat"})
    assert {(len(row["messages"]), row["messages"][-1]["role"], row["reference"]) for row in rows} == {(1, "user", "Old.")}


def test_a_fence_or_a_sentence_before_the_json_of_a_model_that_decodes_freely(desk: Desk) -> None:
    replies = ['```json {"a": "x"} ```', 'Here it is: {"a": "y"}', '{"a": "z"}', "It is x."]
    unit = {"output": schema_of(a={"type": "string"}), "lenient_json": True}
    teacher = {"structured": False}
    rows = desk.answers(
        TEXTS, unit=unit, teacher=teacher, model={"type": "fake", "replies": replies}, checks=[{"type": "json_schema"}]
    )
    verdicts = {(row["answer"], row["reasoning"], row["pool"] == "train") for row in rows}
    right = {(replies[0], "", True), ('{"a": "y"}', "Here it is:", True), (replies[2], "", True)}
    assert verdicts == right | {(replies[3], "", False)}


def test_an_instruction_that_all_prompts_repeat_makes_them_no_copies(desk: Desk) -> None:
    shared = " ".join(f"word{chr(97 + a)}{chr(97 + b)}" for a in range(10) for b in range(6))
    own = [" ".join(f"{word}{number}" for word in ("apple", "bridge", "clock", "delta")) for number in range(45)]
    desk.source([{"input": f"{shared} {text}", "reference": "yes"} for text in own[:5]], "holdout.jsonl")
    rows = desk.prompts([f"{shared} {text}" for text in own[5:]])
    assert len(rows) == 40 and len(desk.rows("prompts", "holdout")) == 5


def test_spellings_of_one_sentence_are_copies_and_stay_as_written(desk: Desk) -> None:
    text = "La m\u00e8re du garde a pr\u00e9f\u00e9r\u00e9 rester o\u00f9 les \u00e9l\u00e8ves l'ont laiss\u00e9e hier soir."
    spaces = ["\u00a0", " \u200b", "\u3000"]
    forms = [text, unicodedata.normalize("NFD", text), *(text.replace(" ", space) for space in spaces)]
    desk.source([{"text": form} for form in forms])
    _, rows = desk.dedup("train.jsonl")
    assert len(rows) == 1 and rows[0]["text"] in forms


def test_nan_is_found_by_sql(desk: Desk) -> None:
    desk.prompts(TEXTS)
    rows = candidate_rows(TEXTS[:2])
    rows[1]["confidence"], rows[2]["confidence"] = math.nan, None
    put(desk.folder, "candidates", candidates=(rows, CANDIDATE, 2))
    result = desk.command("sql", desk.folder / "run", "select answer_id from candidates where isnan(confidence)", "--json")
    assert json.loads(result.output) == {"answer_id": rows[1]["answer_id"]}
