"""Replies as servers are known to write them, each with what it counts as; tokens are counted whatever a server reports."""

import json
import logging
from typing import Any

import pyarrow as pa
import pytest

from engine.contract.teachers import Thinks
from engine.inference import chat_reply
from engine.inference.chat_reply import InvalidReply, completion, parse_reply
from engine.inference.engine import Completion
from engine.inference.ledger import Ledger
from engine.inference.reasoning import parse_reasoning
from engine.storage.folder import Folder
from engine.storage.shards import write_shard
from engine.teachers.teacher import PAID

USAGE = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
    {"type": "text", "text": "4"},
    {"type": "text", "text": "2"},
]


def read(
    message: object, finish_reason: object = "stop", *, usage: object = USAGE, prompt: str = "x" * 60, **choice: Any
) -> Completion:
    body = {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason, **choice}], "usage": usage}
    return completion(parse_reply(json.dumps(body).encode(), 0.1), prompt, 64)


@pytest.mark.parametrize(
    ("message", "finish_reason", "counts_as"),
    [
        ({"content": "42"}, "stop", ("42", "", "stop")),
        ({"content": "42", "reasoning_content": "Hm."}, "stop", ("42", "Hm.", "stop")),  # DeepSeek, SGLang, llama.cpp, older vLLM
        ({"content": "42", "reasoning": "Hm."}, "stop", ("42", "Hm.", "stop")),  # vLLM, Ollama, Groq
        ({"content": "42", "reasoning": "Hm.", "reasoning_content": "Hm."}, "stop", ("42", "Hm.", "stop")),
        ({"content": "42", "reasoning": {"effort": "low", "summary": None}}, "stop", ("42", "", "stop")),
        ({"content": "42", "reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]}, "stop",
         ("42", "Hm.", "stop")),  # OpenRouter
        ({"content": "42", "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}, {"type": "reasoning.summary",
          "summary": "Hm."}]}, "stop", ("42", "Hm.", "stop")),
        ({"content": "42", "thinking_blocks": [{"type": "thinking", "thinking": "Hm.", "signature": "x"}]}, "stop",
         ("42", "Hm.", "stop")),  # LiteLLM
        ({"content": None, "reasoning_content": "Hm."}, "stop", ("", "Hm.", "error")),
        ({"content": "", "reasoning_content": "Hm."}, "length", ("", "Hm.", "length")),
        ({"content": PARTS}, "stop", ("42", "Hm.", "stop")),  # Mistral
        ({"content": ["4", "2"]}, "stop", ("42", "", "stop")),
        ({"content": {"type": "text", "text": "42"}}, "stop", ("42", "", "stop")),
        ({"content": [{"type": "output_text", "text": {"value": "42"}}]}, "stop", ("42", "", "stop")),
        ({"content": [{"type": "text", "text": "42"}, {"type": "reference", "reference_ids": [1]}]}, "stop", ("42", "", "stop")),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "stop", ("No.", "", "refused")),
        ({"content": None, "refusal": "No."}, "stop", ("No.", "", "refused")),
        ({"content": "42", "refusal": None}, "stop", ("42", "", "stop")),
        ({"content": "42", "refusal": ""}, "stop", ("42", "", "stop")),
        ({"content": "42"}, None, ("42", "", "stop")),
        ({"content": "42"}, "", ("42", "", "stop")),
        ({"content": "42"}, "STOP", ("42", "", "stop")),
        ({"content": "42"}, "eos_token", ("42", "", "stop")),
        ({"content": "42"}, "end_turn", ("42", "", "stop")),
        ({"content": "42"}, "stop_sequence", ("42", "", "stop")),
        ({"content": "42"}, "never heard of", ("42", "", "stop")),
        ({"content": "42"}, 7, ("42", "", "stop")),
        ({"content": "42"}, "length", ("42", "", "length")),
        ({"content": "42"}, "max_tokens", ("42", "", "length")),
        ({"content": "42"}, "MAX_TOKENS", ("42", "", "length")),
        ({"content": "42"}, "model_length", ("42", "", "length")),
        ({"content": ""}, "content_filter", ("", "", "refused")),
        (None, "content_filter: SAFETY", ("", "", "refused")),
        ({"content": "4"}, "refusal", ("4", "", "refused")),
        ({"content": None}, None, ("", "", "error")),
        ({"content": None}, "eos", ("", "", "stop")),
        ({"content": None, "tool_calls": [{"id": "1"}]}, "tool_calls", ("", "", "error")),
        ({"content": None, "tool_calls": [{"id": "1"}]}, "stop", ("", "", "error")),
        ({"content": "42"}, "abort", ("42", "", "error")),
    ],
)  # fmt: skip
def test_reply_counts_as(message: object, finish_reason: object, counts_as: tuple[str, str, str]) -> None:
    answer = read(message, finish_reason)
    assert (answer.text, answer.reasoning, answer.finish_reason) == counts_as
    assert bool(answer.error) == (answer.finish_reason == "error")
    assert (answer.tokens_in, answer.tokens_out) == (20, 10)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"choices": [{"message": {"content": 42}, "finish_reason": "stop"}]}, "content is 42, expected text or a list of parts"),
        ({"choices": [{"finish_reason": "stop"}]}, "no answer: finish_reason 'stop'"),
        ({"choices": [{"message": {"content": "4"}, "finish_reason": "insufficient_system_resource"}]}, "no answer"),
        ({"choices": [{"message": {"content": ""}, "error": {"code": 502, "message": "upstream is gone"}}]}, "upstream is gone"),
        ({"choices": None, "error": "upstream is gone"}, "upstream is gone"),
        ({"choices": []}, "0 choices, expected 1"),
    ],
)
def test_reply_without_an_answer_is_asked_again(body: object, words: str) -> None:
    with pytest.raises(InvalidReply, match=words):
        parse_reply(json.dumps(body).encode(), 0.1)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (USAGE, (20, 10)),
        ({"prompt_tokens": "20", "completion_tokens": 10.0}, (20, 10)),
        ({"input_tokens": 20, "output_tokens": 10}, (20, 10)),
        ({"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 530}, (20, 510)),  # reasoning that only the total counts
        ({"prompt_tokens": 20, "total_tokens": 30}, (20, 10)),
        ({"prompt_tokens": 20}, (20, 40)),
        ({"prompt_tokens": None, "completion_tokens": 10}, (80, 10)),
        *((usage, (80, 40)) for usage in (
            None, {}, [], "none", {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": -5, "completion_tokens": -5},
            {"prompt_tokens": 1, "completion_tokens": 1}, {"prompt_tokens": 10**15, "completion_tokens": 2**31},
            {"prompt_tokens": "many", "completion_tokens": 1e300}, {"prompt_tokens": True, "completion_tokens": [10]},
        )),
    ],
)  # fmt: skip
def test_tokens_are_at_least_what_the_texts_imply(usage: object, tokens: tuple[int, int]) -> None:
    answer = read({"content": "y" * 80, "reasoning": "z" * 80}, usage=usage, prompt="x" * 320)
    assert (answer.tokens_in, answer.tokens_out) == tokens


def test_an_answer_that_was_cut_off_counts_all_tokens_that_it_may_have() -> None:
    assert read({"content": None}, "length", usage=None).tokens_out == 64  # all reasoning, which is not shown
    assert read({"content": "42"}, None, usage={"prompt_tokens": 20, "completion_tokens": 64}).finish_reason == "length"


def test_what_nobody_reads_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    chat_reply._name_once.cache_clear()
    chat_reply._warn_once.cache_clear()
    caplog.set_level(logging.WARNING)
    for _ in range(3):
        parts = [{"type": "text", "text": "42"}, {"type": "reference", "reference_ids": [1]}]
        message = {"content": parts, "annotations": [], "refusal": None, "mood": "glad"}
        read(message, "eos_token", usage={**USAGE, "cost": 0.1}, stop_reason=7, token_ids=None)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 5 and "'eos_token'" in said[4]
    names = ("choice.stop_reason", "message.mood", "usage.cost", "parts of type 'reference' in message.content")
    assert said[:4] == [f"The server's replies hold {name}, which is not read." for name in names]


def test_reasoning_that_a_server_gives_apart_leaves_the_whole_text_as_answer() -> None:
    for tags in (None, Thinks(), Thinks(open="")):
        assert parse_reasoning("\n42", "stop", tags, "Hm.") == ("Hm.", "42", "stop", "")


def test_paid_answers_from_before_the_column_reasoning_are_found(tmp_path) -> None:
    older = pa.schema([field for field in PAID if field.name != "reasoning"], metadata={b"rayleigh.schema_version": b"4"})
    row = dict.fromkeys(older.names) | {"prompt_id": "aa", "answer_id": "k", "answer": "42", "finish_reason": "stop"}
    write_shard(Folder(str(tmp_path)) / "a/a", pa.Table.from_pylist([row], schema=older), older, prefix="aa-aa")
    ledger = Ledger(Folder(str(tmp_path)), PAID, key="answer_id", partition_key="prompt_id")
    with ledger.block(["aa"]):
        [kept] = ledger.find(["k"]).to_pylist()
    assert (kept["answer"], kept["reasoning"]) == ("42", None)
