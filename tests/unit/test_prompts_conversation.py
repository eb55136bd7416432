"""Conversations as data sets write them become one kind of prompt, or a reject that names what was found."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.contract import Contract
from engine.contract.prompts import Holdout, Source
from engine.inference.engine import instruct
from engine.prompts import files
from engine.prompts.conversation import ROLES, RowReject, read_conversation
from engine.prompts.sources import identify, prompts

FORMATS = ("openai", "parts", "sharegpt", "gemini", "json")
SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt"}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def written(turns, form):
    """Return (role, text) turns as a data set of the format writes them."""
    if form == "sharegpt":
        return [{"from": SHAREGPT[role], "value": text} for role, text in turns]
    if form == "gemini":
        return [{"role": role.replace("assistant", "model"), "parts": [{"text": text}]} for role, text in turns]
    if form == "parts":
        return [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
    plain = [{"role": role.replace("system", "developer"), "content": text} for role, text in turns]
    return json.dumps(plain) if form == "json" else plain


def read(path, section=None, **more):
    """Return the rows of one source of conversations, as dicts."""
    section = section or Source(path=str(path), licence="x", columns={"messages": "chat"}, **more)
    found = files.source_files([("train", "unit", section)], root=".")
    return [row for file in found for table in prompts(file, max_chars=10_000) for row in identify(table).to_pylist()]


def lines(path, *chats):
    path.write_text("".join(json.dumps({"chat": chat}) + "\n" for chat in chats))
    return path


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TURNS = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXTS), min_size=1, max_size=6)


@settings(deadline=None, max_examples=60)
@given(TURNS, st.sampled_from(FORMATS))
def test_same_conversation_in_any_format_is_the_same_prompt(turns, form):
    try:
        expected = read_conversation(written(turns, "openai"))
    except RowReject as reject:
        with pytest.raises(RowReject) as other:
            read_conversation(written(turns, form))
        assert other.value.args[0] == reject.args[0] == "empty"
        return
    assert read_conversation(written(turns, form)) == expected
    kept = [{"role": role, "content": text} for role, text in turns[: len(expected.turns)]]
    assert expected.turns == kept and expected.turns[-1]["role"] != "assistant"
    assert all(role == "assistant" for role, _ in turns[len(kept) :])


def test_rows_of_all_formats_and_files_have_the_same_id(tmp_path):
    turns = [("system", "Be brief."), ("user", "One?"), ("assistant", "Yes."), ("user", "Two?")]
    path = lines(tmp_path / "seeds.jsonl", *(written(turns, form) for form in FORMATS))
    rows = read(path)
    assert {(row["reason"], row["prompt_id"], row["text"]) for row in rows} == {("", rows[0]["prompt_id"], "One?\nTwo?")}
    mixed = [{"chat": written(turns, "parts")}, {"chat": [{"role": "user", "content": [{"type": "image_url", "image_url": "u"}]}]}]
    pq.write_table(pa.Table.from_pylist(mixed), tmp_path / "seeds.parquet")
    first, second = read(tmp_path / "seeds.parquet")
    assert [turn["content"] for turn in first["messages"]] == [text for _, text in turns]
    assert second["reason"] == "media"


@pytest.mark.parametrize("role", [role for role, ours in ROLES.items() if ours == "user"])
def test_roles_are_read_in_any_case(role):
    assert read_conversation([{"role": role.title(), "content": "a"}]).turns == [{"role": "user", "content": "a"}]


@pytest.mark.parametrize(
    ("turn", "reason", "words"),
    [
        ({"role": "robot", "content": "x"}, "unknown_role", "turn 2: found the role 'robot', expected one of system, developer"),
        ({"role": 7, "content": "x"}, "unknown_role", "found the role 7"),
        ({"speaker": "a", "line": "x"}, "bad_value", "found the keys ['line', 'speaker'], expected role and content"),
        ({"role": "user", "content": None}, "bad_value", "turn 2 of 3 (user): found null as content"),
        ({"role": "user", "content": 5}, "bad_value", "found int as content"),
        ({"from": "human", "value": [5]}, "bad_value", "part 1: found int"),
        ({"role": "user", "content": [{"type": "chart"}]}, "bad_value", "found type 'chart'"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}, "media", "found 'image_url'"),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_audio"}]}, "media", "part 2"),
        ({"role": "assistant", "content": None, "tool_calls": [CALL]}, "tool_calls", "turn 2 of 3 (assistant) calls a tool"),
        ({"role": "assistant", "content": "", "function_call": {"name": "look"}}, "tool_calls", "calls a tool"),
        ({"role": "assistant", "content": [{"type": "tool_use", "name": "look"}]}, "tool_calls", "calls a tool"),
        ({"role": "tool", "tool_call_id": "c1", "content": "42"}, "tool_calls", "turn 2 of 3 (tool) is the result of a tool"),
        ({"from": "function_call", "value": "{}"}, "tool_calls", "turn 2 of 3 (function_call) calls a tool"),
        ({"from": "observation", "value": "42"}, "tool_calls", "(observation) is the result of a tool"),
        ({"role": "user", "content": "\ud800"}, "encoding", "surrogate"),
        ("hello", "bad_value", "turn 2 of 3: found str, expected an object with role and content"),
    ],
)
def test_what_cannot_be_used_is_a_reject_that_names_it(turn, reason, words):
    with pytest.raises(RowReject) as caught:
        read_conversation([{"role": "user", "content": "a"}, turn, {"role": "user", "content": "b"}])
    assert caught.value.args[0] == reason and words in caught.value.args[1]


@pytest.mark.parametrize("value", [None, [], "", "{", '"text"', 5, {"role": "user"}, [{"from": "gpt", "value": "a"}]])
def test_value_that_is_no_conversation_is_a_reject(value):
    with pytest.raises(RowReject) as caught:
        read_conversation(value)
    assert caught.value.args[0] in ("empty", "bad_value") and caught.value.args[1]


@pytest.mark.parametrize(
    ("after", "answer"),
    [
        ([{"role": "assistant", "content": "It is 42."}], "It is 42."),
        ([{"from": "gpt", "value": "It is"}, {"from": "gpt", "value": "42."}], "It is\n\n42."),
        ([{"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": "4"}], None),
        (
            [
                {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]},
                {"role": "tool", "content": "42"},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "42"}]},
            ],
            "42",
        ),
        ([{"role": "assistant", "content": [{"type": "image", "image": "u"}]}], None),
        ([{"role": "assistant", "content": " "}], None),
    ],
)
def test_what_follows_the_last_question_is_cut_off_and_its_text_is_the_answer(after, answer):
    found = read_conversation([{"role": "user", "content": "a"}, *after])
    assert (found.turns, found.answer, found.is_cut) == ([{"role": "user", "content": "a"}], answer, True)


CHAT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "yes"}]


@pytest.mark.parametrize(("choice", "reference"), [("reference", "yes"), ("drop", None)])
def test_last_answer_becomes_the_reference_or_is_dropped(tmp_path, choice, reference):
    [row] = read(lines(tmp_path / "a.jsonl", CHAT), last_assistant=choice)
    [plain] = read(lines(tmp_path / "a.jsonl", CHAT[:1]))
    assert (row["reason"], row["reference"], row["is_cut"]) == ("", reference, True)
    assert row["prompt_id"] == plain["prompt_id"] and (plain["reference"], plain["is_cut"]) == (None, False)


def test_last_answer_is_rejected_if_the_contract_says_so_and_loses_to_a_mapped_reference(tmp_path):
    [row] = read(lines(tmp_path / "a.jsonl", CHAT), last_assistant="reject")
    assert row["reason"] == "ends_with_assistant" and row["detail"]
    (tmp_path / "a.jsonl").write_text(json.dumps({"chat": CHAT, "gold": "no"}))
    [row] = read(tmp_path, Source(path=str(tmp_path), licence="x", columns={"messages": "chat", "reference": "gold"}))
    assert row["reference"] == "no"


def test_holdout_of_conversations_has_the_last_answers_as_references(tmp_path):
    path = lines(tmp_path / "a.jsonl", CHAT, CHAT[:1])
    first, second = read(path, Holdout(path=str(path), labels="human", columns={"messages": "chat"}))
    assert first["reference"] == "yes" and (second["reason"], "no reference" in second["detail"]) == ("empty", True)
    with pytest.raises(ValueError, match="needs reference"):
        Holdout(path="a", labels="human", columns={"messages": "chat"}, last_assistant="drop")


def test_check_of_references_accepts_a_source_that_ends_with_answers():
    source = {"path": "a.jsonl", "licence": "x", "columns": {"messages": "chat"}}
    order = {
        "name": "n", "specialist": {"goal": "g", "task_units": [{"name": "u", "kind": "rewrite", "instruction": "i"}]},
        "prompts": {"sources": [source], "holdout": {"path": "h.jsonl", "labels": "rule"}}, "gate": {},
        "teachers": {"mode": "direct", "models": [{"name": "t", "model": {"type": "fake"}}]}, 
        "judges": {"checks": [{"type": "math"}]},
        "students": [{"name": "s", "init": {"prune": {"source": "x", "layers": [0]}}}],
    }  # fmt: skip
    with pytest.raises(ValueError, match="last_assistant: reference"):
        Contract.model_validate(order)
    source["last_assistant"] = "reference"
    assert Contract.model_validate(order).prompts.sources[0].last_assistant == "reference"


def test_system_turns_of_contract_and_source_become_one_at_the_head():
    source = [{"role": "system", "content": "Speak plainly."}, {"role": "user", "content": "a"}]
    one = {"role": "system", "content": "You are an expert.\n\nSpeak plainly."}
    shots = [("in", "out")]
    assert instruct(source, system="You are an expert.") == [one, source[1]]
    assert [turn["role"] for turn in instruct(source, shots=shots)] == ["system", "user", "assistant", "user"]
    assert instruct(source) == source and instruct(source[1:], system="x")[0]["content"] == "x"


def test_order_of_parts_and_unused_keys_change_nothing():
    plain = read_conversation([{"role": "user", "content": "a\nb"}])
    parts = [{"type": "text", "text": "a", "cache_control": None}, "b", {"type": "thinking", "thinking": "hm", "text": None}]
    assert read_conversation([{"role": "user", "content": parts, "name": "x", "weight": 1, "tool_calls": []}]) == plain
    assert read_conversation([{"role": "user", "content": {"content_type": "text", "parts": ["a", "b"]}}]) == plain
    assert read_conversation([{"role": None, "from": "human", "value": "a\nb", "content": None}]) == plain
