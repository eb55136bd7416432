"""vLLM: what is too long never reaches it, and a batch is computed alike however loaded the machine is."""

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from engine.contract.models import Sampling, VllmModel
from engine.contract.profile import Pool
from engine.inference.engine import Request
from engine.inference.locate import locate
from engine.inference.vllm_engine import VllmEngine
from jobs.places import models_home

LIMIT = 64


class Recorder:
    """Stands for `vllm.LLM`: keeps the lengths of what it is asked."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def generate(self, prompts: list[dict[str, Any]], params: list[Any], use_tqdm: bool) -> list[Any]:
        self.lengths += [len(prompt["prompt_token_ids"]) for prompt in prompts]
        said = SimpleNamespace(text="yes", finish_reason="stop", token_ids=[1], cumulative_logprob=-0.1, logprobs=None)
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


def completions_and_steps(delays: list[float]) -> list[tuple[list[tuple[str, float | None]], list[int]]]:
    """Complete the same batch once for each delay (seconds) of its grammars; return (text, logprob) a row, and requests a step."""
    from vllm.v1.structured_output import StructuredOutputManager

    folder = locate("smollm2-135m-instruct", root=".", home=str(models_home()))
    engine = VllmEngine(VllmModel(type="vllm", path="smol"), Pool(kv_cache_gib=0.5), folder)
    scheduler: Any = engine.llm.llm_engine.engine_core.engine_core.scheduler  # type: ignore[attr-defined]
    schedule, compile_grammar = scheduler.schedule, StructuredOutputManager._create_grammar
    results = []
    for delay in delays:
        steps: list[int] = []

        def counted(*arguments: Any, steps: list[int] = steps, **named: Any) -> Any:
            output = schedule(*arguments, **named)
            steps.append(len(output.num_scheduled_tokens))
            return output

        def delayed(manager: Any, request: Any, delay: float = delay) -> Any:
            time.sleep(delay)
            return compile_grammar(manager, request)

        scheduler.schedule, StructuredOutputManager._create_grammar = counted, delayed
        engine.reset_prefix_cache()
        requests = [
            Request(
                [{"role": "user", "content": f"JSON of lamp {number}"}], number, 0.7, {"enum": [f"lamp {number}", "no lamp at all"]}
            )
            for number in range(8)
        ]
        rows = engine.complete(requests, Sampling(max_tokens=12, temperature=0.7))
        results.append(([(row.text, row.logprob) for row in rows], steps))
    return results


@pytest.mark.timeout(300)
def test_a_batch_is_computed_together_however_long_its_grammars_take() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        first, slow = process.submit(completions_and_steps, [0.0, 0.2]).result()
    assert first == slow
    assert first[1][0] == len(first[0])  # all requests in the first step
