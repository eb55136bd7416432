"""Chats that a template refuses never reach the engine, and never end its process."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from engine.contract.models import Sampling, VllmModel
from engine.errors import ModelError
from engine.inference.chat_template import check_template
from engine.inference.engine import Chat, Request
from engine.inference.vllm_engine import VllmEngine

PLAIN = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System turns are unknown') }}{% endif %}" + PLAIN
ONE_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' and not loop.first %}"
    "{{ raise_exception('System must be first') }}{% endif %}{% endfor %}" + PLAIN
)


def tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    words = "system user assistant brief sailor hello you Say OK.".split()
    model = Tokenizer(WordLevel({word: number for number, word in enumerate(["?", *words])}, unk_token="?"))
    model.pre_tokenizer = WhitespaceSplit()  # type: ignore[assignment]
    loaded = PreTrainedTokenizerFast(tokenizer_object=model, unk_token="?")
    loaded.chat_template = template  # type: ignore[assignment]
    return loaded


class Recorder:
    """In place of `vllm.LLM`: records the prompts, answers yes."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer, self.prompts = tokenizer, []

    def generate(self, prompts: list[dict[str, Any]], params: list[Any], use_tqdm: bool) -> list[Any]:
        self.prompts += [self.tokenizer.decode(prompt["prompt_token_ids"]) for prompt in prompts]
        sample = SimpleNamespace(text="yes", finish_reason="stop", token_ids=[1], cumulative_logprob=-0.1, logprobs=None)
        return [SimpleNamespace(outputs=[sample], prompt_token_ids=prompt["prompt_token_ids"]) for prompt in prompts]


def engine(template: str | None) -> tuple[VllmEngine, Recorder]:
    loaded = VllmEngine.__new__(VllmEngine)  # without weights
    loaded.model, loaded.folder = VllmModel(type="vllm", path="m"), Path("m")
    loaded.vllm, loaded.refusals = SimpleNamespace(SamplingParams=SimpleNamespace), (ValueError,)
    loaded.tokenizer, loaded.refused, loaded.tokens_read = tokenizer(template), 0, 0
    loaded.llm = recorder = Recorder(loaded.tokenizer)
    return loaded, recorder


def chat(*turns: str) -> Chat:
    return [{"role": role, "content": content} for role, _, content in (turn.partition(" ") for turn in turns)]


def ask(asked: VllmEngine, *chats: Chat) -> list[Any]:
    return asked.complete([Request(chat, 1, 0.0) for chat in chats], Sampling())


@pytest.mark.parametrize(
    ("template", "turns", "words"),
    [(None, ["user hello"], "chat_template is not set"), (NO_SYSTEM, ["system brief", "user hello"], "System turns are unknown")],
)
def test_a_template_that_refuses_every_chat_stops_the_run(template: str | None, turns: list[str], words: str) -> None:
    asked, recorder = engine(template)
    with pytest.raises(ModelError, match=rf"m: the chat template refuses the chat: .*{words}(.|\n)*teachers.models.N.system"):
        ask(asked, *(chat(*turns[:-1], f"{turns[-1]} {number}") for number in range(3)))
    assert recorder.prompts == []


def test_a_refused_chat_is_the_error_of_its_row_alone() -> None:
    asked, recorder = engine(NO_SYSTEM)
    fine, odd, again = ask(asked, chat("user hello"), chat("system brief", "user hello"), chat("user you"))
    assert (fine.text, again.text, odd.finish_reason, odd.retryable, odd.tokens_in) == ("yes", "yes", "error", False, 0)
    assert odd.error == "the chat template refuses the chat: TemplateError: System turns are unknown"
    assert recorder.prompts == ["user hello", "user you"]
    assert [row.finish_reason for row in ask(asked, *[chat("system brief", f"user {word}") for word in "ab"])] == ["error"] * 2


def test_single_chats_that_are_all_refused_stop_the_run_at_the_second() -> None:
    asked, _ = engine(NO_SYSTEM)
    odd = chat("system brief", "user hello")
    assert ask(asked, odd, odd)[1].finish_reason == "error"
    with pytest.raises(ModelError, match="System turns are unknown"):
        ask(asked, chat("system brief", "user you"))


def test_a_second_system_turn_is_merged_only_where_the_template_refuses_it() -> None:
    two = chat("system brief", "system sailor", "user hello")
    for template, prompt in ((ONE_SYSTEM, "system brief sailor user hello"), (PLAIN, "system brief system sailor user hello")):
        asked, recorder = engine(template)
        assert [row.text for row in ask(asked, two)] == ["yes"] and recorder.prompts == [prompt]


def test_a_judge_gets_no_probabilities_for_a_refused_chat() -> None:
    asked, recorder = engine(NO_SYSTEM)
    recorder.generate = lambda prompts, params, use_tqdm: [  # type: ignore[method-assign]
        SimpleNamespace(outputs=[SimpleNamespace(logprobs=[{6: SimpleNamespace(logprob=-0.5)}])], prompt_token_ids=[1, 2])
        for _ in prompts
    ]
    assert asked.choice_probs([chat("user hello"), chat("system brief", "user hello")], ["hello", "you"]) == [[1.0, 0.0], None]
    assert asked.tokens_read == 2


@pytest.mark.parametrize(
    ("template", "system", "refuses"),
    [(PLAIN, "brief", False), (NO_SYSTEM, "", False), (NO_SYSTEM, "brief", True), (None, "", True)],
)
def test_templates_are_checked_without_weights(tmp_path: Path, template: str | None, system: str, refuses: bool) -> None:
    tokenizer(template).save_pretrained(tmp_path)
    if refuses:
        with pytest.raises(ModelError, match="the chat template refuses the chat"):
            check_template(tmp_path, system)
    else:
        check_template(tmp_path, system)


def test_parameters_that_the_engine_refuses_cost_no_other_row_its_answer() -> None:
    def refuse(json: object) -> object:
        raise ValueError(f"no grammar for {json}")

    loaded, recorder = engine(PLAIN)
    loaded.vllm = SimpleNamespace(SamplingParams=SimpleNamespace, sampling_params=SimpleNamespace(StructuredOutputsParams=refuse))
    requests = [Request(chat("user hello"), 1, 0.0, schema) for schema in ({"type": "odd"}, None)]
    odd, fine = loaded.complete(requests, Sampling())
    assert (odd.finish_reason, fine.text, len(recorder.prompts)) == ("error", "yes", 1)
    assert odd.error == "vLLM refuses the request's parameters: no grammar for {'type': 'odd'}"
