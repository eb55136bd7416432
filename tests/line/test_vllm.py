"""The teacher's own tokenizer, before its engine: what is too long for it never gets there."""

from types import SimpleNamespace
from typing import Any

from transformers import AutoTokenizer

from engine.contract.models import Sampling, VllmModel
from engine.inference.engine import Request
from engine.inference.locate import locate
from engine.inference.vllm_engine import VllmEngine
from jobs.workspace import models_home

LIMIT = 64


class Recorder:
    """Stands for `vllm.LLM`: keeps the lengths of what it is asked."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def generate(self, prompts: list[dict[str, Any]], params: list[Any], use_tqdm: bool) -> list[Any]:
        self.lengths += [len(prompt["prompt_token_ids"]) for prompt in prompts]
        said = SimpleNamespace(text="yes", finish_reason="stop", token_ids=[1], cumulative_logprob=-0.1)
        return [SimpleNamespace(outputs=[said]) for _ in prompts]


def test_a_prompt_longer_than_the_teacher_reads_never_reaches_its_engine() -> None:
    folder = locate("smollm2-135m-instruct", root=".", home=str(models_home()))
    engine = VllmEngine.__new__(VllmEngine)  # without the seconds of loading weights that are not asked
    engine.model = VllmModel(type="vllm", path="smol", max_model_len=LIMIT)
    engine.vllm, engine.refusals = SimpleNamespace(SamplingParams=SimpleNamespace), (ValueError,)
    engine.llm = recorder = Recorder()
    engine.tokenizer = AutoTokenizer.from_pretrained(folder)
    lengths = [4, 400, 12, 20, 60, 24]  # words: a word is a token or more, and the template adds some
    asked = [Request([{"role": "user", "content": "mail " * words}], 1, 0.0) for words in lengths]

    said = engine.complete(asked, Sampling())

    assert [one.finish_reason for one in said] == ["stop", "too_long", "stop", "stop", "too_long", "stop"]
    assert [one.tokens_in for one in said if one.finish_reason == "stop"] == recorder.lengths and max(recorder.lengths) < LIMIT
    assert said[1].error == f"{said[1].tokens_in} tokens in the prompt, the model reads {LIMIT}" and said[1].tokens_in > 400
