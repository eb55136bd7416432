"""Exact match of a student on validation examples: which are asked, what is compared, and decoding with and without a grammar."""

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from engine.contract.specialist import TaskUnit
from engine.errors import InputError
from engine.students.training.generation import Question, Sample, Shares, chosen
from engine.students.training.state import Served

SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": ["string", "null"], "minLength": 2}},
    "required": ["word"],
    "additionalProperties": False,
}
TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def unit(**changes: Any) -> TaskUnit:
    output = {"json_schema": SCHEMA, "spans": {"word": 1}}
    return TaskUnit.model_validate({"name": "copy", "kind": "extraction", "output": output, **changes})


def example(number: int, word: str, **changes: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Copy."}, {"role": "user", "content": word}]
    form = f'{{"word":"{word}"}}'
    return {
        "example_id": f"{number:02d}", "task_unit": "copy", "messages": messages, "target": form, "final": form, "kind": "answer",
        "difficulty": "easy", "split": "validation", **changes,
    }  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """One token a byte."""
    marks = ["<pad>", "<s>", "</s>"]
    letters = [*marks, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    made.chat_template = TEMPLATE
    return made


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    """A random model."""
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(shape).eval()


def exact(rows: list[dict], model: Any, tokenizer: Any, only: TaskUnit, *, decode: str = "both") -> tuple[int, int]:
    return Sample(rows, Served({"copy": only}, 24), tokenizer).exact(model, decode=decode)


def test_each_prompt_is_decoded_by_its_own_grammar(model: Any, tokenizer: Any) -> None:
    """Each prompt has one word that fits the schema; without a value that is null, the grammar leaves one answer."""
    one = {"word": {"type": "string", "minLength": 2}}
    bound = unit(output={"json_schema": {**SCHEMA, "properties": one}, "spans": {"word": 1}})
    rows = [example(number, "abcdefgh"[number:]) for number in range(5)]
    assert exact(rows, model, tokenizer, bound) == (5, 0)  # a random model without a grammar is never right
    assert exact(rows, model, tokenizer, bound, decode="served") == (5, 0)
    assert exact(rows, model, tokenizer, bound, decode="free") == (0, 0)


def test_an_answer_without_an_end_is_not_exact(model: Any, tokenizer: Any) -> None:
    one = {"word": {"type": "string", "minLength": 2}}
    bound = unit(output={"json_schema": {**SCHEMA, "properties": one}, "spans": {"word": 1}})
    rows = [example(0, "abcdefgh"), example(1, "abcdefghijklmnop")]  # 19 and 27 tokens with the end, and 24 are allowed
    assert exact(rows, model, tokenizer, bound, decode="served") == (1, 0)


def test_batches_are_answered_as_single_prompts_are(model: Any, tokenizer: Any) -> None:
    rows = [example(number, "abcdefgh"[number:] + " and more" * (number % 3)) for number in range(6)]
    sample = Sample(rows, Served({"copy": unit(output={})}, 12), tokenizer)
    [batch] = sample.batches
    prompts = [question.ids for question in batch]
    alone = [model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :] for ids in prompts]
    texts = [tokenizer.decode(ids) for ids in alone]
    sample.tokenizer = _Raw(tokenizer)
    assert sample._generate(model, prompts, []) == [text if "</s>" in text else None for text in texts]


class _Raw:
    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def batch_decode(self, ids: Any, skip_special_tokens: bool) -> list[str]:
        return [self.tokenizer.decode(row) for row in ids]


@pytest.mark.parametrize(
    ("changes", "answer", "right"),
    [
        ({}, '{ "word": "ab" }', True),
        ({}, '{"word": "b"}', False),
        ({}, 'Here: {"word": "ab"}', False),
        ({"lenient_json": True}, 'Here: {"word": "ab"}', True),
        ({"supervise": "process"}, 'It says ab.\n{"word": "ab"}', True),
        ({"supervise": "process"}, "It says ab.", False),
        ({"output": {}}, '  {"word":"ab"} ', True),
        ({"output": {}}, '{ "word": "ab" }', False),
    ],
)
def test_answers_are_compared_as_the_report_compares_them(changes: dict, answer: str, right: bool) -> None:
    only = unit(**changes)
    question = Question([], only.output.json_schema, example(0, "ab", target="not compared"), only)
    assert question.is_right(answer) is right


def test_a_turn_with_tools_is_compared_with_its_target() -> None:
    row = example(0, "ab", target='{"answer":{"word":"ab"}}')
    question = Question([], SCHEMA, row, unit(supervise="tools"))
    assert question.is_right('{"answer": {"word": "ab"}}') and not question.is_right('{"word": "ab"}')


def test_the_examples_are_spread_over_units_and_difficulties() -> None:
    rows = [example(n, "ab", difficulty=["easy", "hard"][n % 2], task_unit=["copy", "other"][n % 4 // 2]) for n in range(40)]
    picked = chosen(rows, 8, "s")
    assert {(row["task_unit"], row["difficulty"]) for row in picked} == {
        (u, d) for u in ("copy", "other") for d in ("easy", "hard")
    }
    assert picked == chosen(rows[::-1], 8, "s")
    assert len(chosen(rows, 100, "s")) == 40


def test_a_split_without_answers_is_refused() -> None:
    with pytest.raises(InputError, match="none of the 1 validation examples is of the kind `answer`"):
        chosen([example(0, "ab", kind="refusal")], 8, "s")


def test_the_mean_of_what_was_measured_decides() -> None:
    assert Shares(0.5, 0.25).metric == 0.375 and Shares(0.5, None).metric == 0.5 and Shares().metric is None
