"""What a student learns is what it is served with, id by id; planted mismatches are refused with what to mend."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.contract.students import Student
from engine.errors import InputError, ModelError
from engine.inference.chat_template import tokenize_chats
from engine.inference.turn_end import stop_ids, turn_end
from engine.rows import EXAMPLE, from_rows
from engine.students.data import preflight
from engine.students.data.tokenise import COLUMNS, check_mask, tokenise
from engine.students.init.source import check_source
from tests.small_tokenizer import PROMPT, TURN, template, write

IM_END = TURN.replace("</s>", "<end>\n")
STUDENT = Student.model_validate({"name": "s", "init": {"prune": {"source": "x", "layers": (0, 2)}}})
ANSWERS = "{% if m['role'] == 'assistant' %}"
EMPTY = "<s>assistant\n</s>"
REASONED = ANSWERS + EMPTY.replace("</s>", "<think>\n\n</think>\n\n{{ m['content'] }}</s>") + "{% else %}" + TURN + "{% endif %}"
PLAIN_PROMPT = "{% if add_generation_prompt %}assistant: {% endif %}"
ROW = {
    "example_id": "e", "split": "train", "kind": "answer", "weight": 1.0, "final": "{}", "rationale": "", "target": "{}",
    "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi </s> there"}],
}  # fmt: skip


def refused(folder: Path, chat_template: str, **options: Any) -> str:
    """The message with which a source with this template is refused by `rayleigh check`, and by the job."""
    tokenizer = write(folder, chat_template, **options)
    with pytest.raises(ModelError) as caught:
        preflight.check(tokenizer, folder, preflight.stop_tokens(folder, tokenizer))
    with pytest.raises(ModelError) as checked:
        check_source(folder, STUDENT, "be brief")
    assert str(checked.value) == str(caught.value)
    return str(caught.value)


def tokens(tokenizer: Any, **changes: Any) -> dict[str, Any]:
    [row] = tokenise(from_rows([{**ROW, **changes}], EXAMPLE).select(COLUMNS.names), tokenizer, turn_end(tokenizer)).to_pylist()
    return row


@pytest.mark.parametrize("begin", ["", "<s>"])
def test_served_prompt_is_the_prefix_of_what_is_trained(tmp_path: Path, begin: str) -> None:
    tokenizer = write(tmp_path, template(TURN.removeprefix("<s>"), "{% if add_generation_prompt %}assistant\n{% endif %}", begin))
    preflight.check_source(tmp_path)
    row = tokens(tokenizer)
    [served] = tokenize_chats(tokenizer, [ROW["messages"]])
    assert row["ids"][: row["target_start"]] == served
    assert tokenizer.decode(row["ids"][row["target_start"] :]) == "{}</s>"


@pytest.mark.parametrize(("eos", "stops"), [("<end>", 3), ("</s>", [2, 3])])
def test_turn_ends_as_the_template_ends_it_whatever_ends_a_text(tmp_path: Path, eos: str, stops: Any) -> None:
    tokenizer = write(tmp_path, template(IM_END), eos=eos)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 2]}))
    preflight.check_source(tmp_path)
    assert tokenizer.convert_ids_to_tokens(turn_end(tokenizer)) == ["<end>"]
    assert tokens(tokenizer)["ids"][-1] == 3
    assert stop_ids(tokenizer) == stops  # what an exported student's generation settings say


def test_template_without_marks_ends_with_the_end_of_sequence(tmp_path: Path) -> None:
    tokenizer = write(tmp_path, template("{{ m['role'] }}: {{ m['content'] }}\n", PLAIN_PROMPT))
    preflight.check_source(tmp_path)
    assert turn_end(tokenizer) == [tokenizer.eos_token_id] == [stop_ids(tokenizer)]


def test_empty_reasoning_of_a_template_is_no_mismatch(tmp_path: Path) -> None:
    write(tmp_path, template(REASONED))
    preflight.check_source(tmp_path)


def test_turn_end_at_which_the_engine_does_not_stop_is_refused(tmp_path: Path) -> None:
    said = refused(tmp_path, template(IM_END))
    assert "ends an assistant's turn with '<end>', and an engine stops only at '</s>'" in said and "Add the id 3" in said


def test_doubled_begin_of_sequence_is_refused(tmp_path: Path) -> None:
    assert "begins with two tokens '<s>'" in refused(tmp_path, template(begin="{{ bos_token }}"))


def test_missing_begin_of_sequence_is_refused(tmp_path: Path) -> None:
    plain = template("{{ m['role'] }}: {{ m['content'] }}</s>", PLAIN_PROMPT)
    assert "put {{ bos_token }} at the beginning" in refused(tmp_path, plain, adds_bos=True)


def test_vocabulary_larger_than_the_embeddings_is_refused(tmp_path: Path) -> None:
    assert "and the model embeddings for 200 (vocab_size" in refused(tmp_path, template(), vocab_size=200)


@pytest.mark.parametrize(
    ("turn", "prompt", "said"),
    [
        (TURN, PROMPT.replace("<s>", "</s>"), "in another way than its generation prompt announces"),
        (TURN.replace("{{ m['content'] }}", "Answer: {{ m['content'] }}"), PROMPT, "writes 'Answer: ' between"),
        (
            ANSWERS + EMPTY + "{% else %}" + TURN + "{% endif %}",
            PROMPT,
            "drops the text of an assi",
        ),
        (ANSWERS + TURN + "{% endif %}", PROMPT, "drops the text of a user's turn"),
    ],
)
def test_template_that_trains_another_text_than_it_serves_is_refused(tmp_path: Path, turn: str, prompt: str, said: str) -> None:
    assert said in refused(tmp_path, template(turn, prompt))


def test_tokenizers_that_differ_are_refused(tmp_path: Path) -> None:
    ours, theirs = write(tmp_path / "a", template()), write(tmp_path / "b", template(begin="</s>"))
    preflight.check_same(ours, ours, [ROW["messages"]])
    with pytest.raises(ModelError, match="the tokenizer that is saved gives"):
        preflight.check_same(ours, theirs, [ROW["messages"]])


@pytest.mark.parametrize(("start", "said"), [(0, "there is no prompt, so all of its 5 tokens"), (5, "no target, so none of its 5")])
def test_mask_of_all_or_no_tokens_is_refused(start: int, said: str) -> None:
    check_mask("e", 4, 5)
    with pytest.raises(InputError, match=f"example e: .*{said}"):
        check_mask("e", start, 5)


def test_spans_cover_the_target(tmp_path: Path) -> None:
    tokenizer = write(tmp_path, template())
    call = '{"thought":"t","call":{"tool":"find","argument":"x"}}'
    cases = [
        ({"target": "It is\nwhite", "rationale": "It is", "final": "white"}, [("rationale", "It is\n"), ("final", "white")]),
        ({"target": "white", "final": "white"}, [("final", "white")]),
        ({"target": "a </s> b\n{}", "rationale": "a </s> b"}, [("rationale", "a </s> b\n"), ("final", "{}")]),
        ({"target": call}, [("tool_call", call)]),
    ]
    for changes, parts in cases:
        row = tokens(tokenizer, **changes)
        found = [(span["kind"], tokenizer.decode(row["ids"][span["start"] : span["end"]])) for span in row["spans"]]
        assert found == [*parts, ("turn_end", "</s>")]
        assert row["spans"][0]["start"] == row["target_start"] and row["spans"][-1]["end"] == len(row["ids"])


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("tokenizer.json", {"model": {"type": "Other"}}, "no tokenizer can be loaded from here: "),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["own.Own", None]}, "tokenizer_class": "Own"}, "custom code"),
        ("generation_config.json", "{", r"generation_config.json: is no JSON"),
        ("generation_config.json", [2], r"generation_config.json: found list, expected a JSON object"),
    ],
)
def test_files_of_an_unknown_kind_are_named_and_their_code_is_not_run(
    tmp_path: Path, file: str, content: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(prompt: str = "") -> str:
        raise AssertionError("a person was asked whether to run the code of a model")

    monkeypatch.setattr("builtins.input", asked)
    write(tmp_path, template())
    path = tmp_path / file
    before = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(
        content if isinstance(content, str) else json.dumps({**before, **content} if isinstance(content, dict) else content)
    )
    with pytest.raises(ModelError, match=words):
        check_source(tmp_path, STUDENT, "be brief")


@pytest.mark.parametrize(
    ("layers", "words"), [({2: 0}, "layer 2 of the student, expected 0 to 1"), ({1: 3}, "layer 3 of the source, expected 0 to 2")]
)
def test_a_hidden_layer_that_is_not_there_is_known_before_training(tmp_path: Path, layers: dict, words: str) -> None:
    write(tmp_path, template())
    section = {"name": "s", "init": {"prune": {"source": "x", "layers": (0, 2)}}, "objectives": {"hidden": {"layers": layers}}}
    with pytest.raises(ModelError, match=f"students.s.objectives.hidden.layers: found {words}"):
        check_source(tmp_path, Student.model_validate(section), "be brief")
    section["objectives"] = {"hidden": {"layers": {1: 2}}}
    check_source(tmp_path, Student.model_validate(section), "be brief")
