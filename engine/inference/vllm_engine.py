"""vLLM in the actor's own process. One engine per process; never beside training or sentence-transformers."""

import json
import logging
import time
from collections.abc import Sequence
from math import exp
from pathlib import Path
from typing import Any

from engine.contract.models import Sampling, VllmModel
from engine.contract.profile import Pool
from engine.errors import ModelError
from engine.inference.engine import Chat, Completion, Request
from engine.inference.identity import identity
from engine.inference.memory import fitting

log = logging.getLogger(__name__)

PREFILL = 4096  # prompt tokens of one step on a CPU
BLOCK = 32  # tokens of a prefix-cache block; the default of 128 on CPU would miss most shared prompts


def engine_arguments(model: VllmModel, pool: Pool, folder: Path) -> dict[str, Any]:
    """Return the arguments of `vllm.LLM`.

    Without GPUs: a fixed cache and no compilation. With GPUs: one shard of each layer per whole GPU, and `pool.pipeline` stages of
    layers, whose workers find their places in the actor's placement group.
    """
    arguments: dict[str, Any] = {
        "model": str(folder),
        "dtype": model.dtype,
        "max_model_len": model.max_model_len,
        "max_num_seqs": pool.max_num_seqs,
        "enable_prefix_caching": True,
        "seed": 0,
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
    }
    if pool.pipeline > 1:
        stages = {"pipeline_parallel_size": pool.pipeline, "distributed_executor_backend": "ray"}
        return {**arguments, **stages, "tensor_parallel_size": int(pool.gpus), "gpu_memory_utilization": 0.9}
    if pool.gpus >= 1:
        return {**arguments, "tensor_parallel_size": int(pool.gpus), "gpu_memory_utilization": 0.9}
    if pool.gpus:
        return {**arguments, "tensor_parallel_size": 1, "gpu_memory_utilization": round(0.9 * pool.gpus, 3)}
    return {
        **arguments,
        "enforce_eager": True,
        "kv_cache_memory_bytes": int(pool.kv_cache_gib * 2**30),
        "block_size": BLOCK,
        "enable_chunked_prefill": False,  # on a CPU vLLM 0.32 dies when a prompt is cut while its request has a seed of its own
        "max_num_batched_tokens": max(PREFILL, model.max_model_len),
    }


class VllmEngine:
    """A loaded vLLM engine."""

    def __init__(self, model: VllmModel, pool: Pool, folder: Path | None) -> None:
        assert folder is not None
        import vllm.exceptions  # here, so that importing this file stays cheap

        self.vllm = vllm
        self.refusals = (ValueError, vllm.exceptions.VLLMClientError)  # a request's own fault, not the engine's
        self.model = model
        self.identity = identity(model, folder)
        self.tokens_read = 0
        try:
            arguments = engine_arguments(model, pool, folder)
            self.llm = fitting(lambda sequences: vllm.LLM(**{**arguments, "max_num_seqs": sequences}), pool.max_num_seqs)
        except Exception as error:  # weights, memory or machine: there is nothing that vLLM does not raise here
            raise ModelError(f"vLLM cannot serve {folder}: {type(error).__name__}: {error}") from error
        self.tokenizer: Any = self.llm.get_tokenizer()

    def reset_prefix_cache(self) -> None:
        """Empty the prefix cache: with bfloat16 it decides how a prompt is computed, and so the last digits of its logits."""
        self.llm.reset_prefix_cache()

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer each request, in order; see `engine.inference.engine.Engine`."""
        started = time.perf_counter()
        tokens = self._tokens([request.chat for request in requests])
        params = [self._params(request, sampling) for request in requests]
        outputs = self._generate(tokens, params)
        share = (time.perf_counter() - started) / max(1, len(requests))
        return [_completion(output, len(ids), share) for output, ids in zip(outputs, tokens, strict=True)]

    def choice_probs(self, chats: Sequence[Chat], choices: Sequence[str]) -> list[list[float] | None]:
        """Return the probabilities of `choices` as next token; see `engine.inference.engine.Engine`."""
        ids = [self._single_token(choice) for choice in choices]
        params = self.vllm.SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=ids)
        outputs = self._generate(self._tokens(chats), [params] * len(chats))
        self.tokens_read += sum(len(output.prompt_token_ids) for output in outputs if not isinstance(output, str))
        return [None if isinstance(output, str) else _shares(output.outputs[0].logprobs[0], ids) for output in outputs]

    def mean_nll(self, chats: Sequence[Chat], answers: Sequence[str]) -> list[float | None]:
        """Return the mean loss of each answer behind its chat; see `engine.inference.engine.Engine`."""
        start = [self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else self.tokenizer.eos_token_id]
        said = [self.tokenizer.encode(answer, add_special_tokens=False) for answer in answers]
        asked = iter(self._tokens([chat for chat in chats if chat]))
        whole = [(next(asked) if chat else start) + ids for chat, ids in zip(chats, said, strict=True)]
        params = self.vllm.SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0)
        outputs = self._generate(whole, [params] * len(whole))
        self.tokens_read += sum(len(output.prompt_token_ids) for output in outputs if not isinstance(output, str))
        return [None if isinstance(output, str) else _loss(output, len(ids)) for output, ids in zip(outputs, said, strict=True)]

    def _generate(self, tokens: Sequence[list[int]], params: Sequence[Any]) -> list[Any]:
        """Outputs in order; a string in place of an output says why a request could not be answered."""
        limit = self.model.max_model_len
        outputs: list[Any] = [
            None if len(ids) < limit else f"too_long: {len(ids)} tokens in the prompt, the model reads {limit}" for ids in tokens
        ]
        fitting = [index for index, output in enumerate(outputs) if output is None]
        answers = self._isolate([tokens[i] for i in fitting], [params[i] for i in fitting])
        for index, answer in zip(fitting, answers, strict=True):
            outputs[index] = answer
        return outputs

    def _isolate(self, tokens: Sequence[list[int]], params: Sequence[Any]) -> list[Any]:
        """Generate; where the engine refuses a request, halve until it stands alone."""
        if not tokens:
            return []
        try:
            return self.llm.generate([{"prompt_token_ids": ids} for ids in tokens], list(params), use_tqdm=False)
        except self.refusals as error:  # one refused request refuses the whole call
            if len(tokens) == 1:
                return [f"error: {error}"]
            log.warning("vLLM refused a batch of %d, halving it: %s", len(tokens), error)
            middle = len(tokens) // 2
            return self._isolate(tokens[:middle], params[:middle]) + self._isolate(tokens[middle:], params[middle:])

    def _params(self, request: Request, sampling: Sampling) -> Any:
        structured = None
        if request.json_schema is not None:
            structured = self.vllm.sampling_params.StructuredOutputsParams(json=request.json_schema)
        return self.vllm.SamplingParams(
            temperature=request.temperature,
            top_p=sampling.top_p if request.temperature else 1.0,
            max_tokens=sampling.max_tokens,
            seed=request.seed,
            logprobs=0,
            skip_special_tokens=not request.aloud,
            structured_outputs=structured,
        )

    def _tokens(self, chats: Sequence[Chat]) -> list[list[int]]:
        """Token ids of each chat; equal chats, as the samples of a prompt are, are read once."""
        if not chats:
            return []
        keys = [json.dumps(chat) for chat in chats]
        different = list(dict(zip(keys, chats, strict=True)).values())
        ids = self.tokenizer.apply_chat_template(different, add_generation_prompt=True, tokenize=True)["input_ids"]
        found = dict(zip(dict.fromkeys(keys), ids, strict=True))
        return [found[key] for key in keys]

    def _single_token(self, choice: str) -> int:
        ids = self.tokenizer.encode(choice, add_special_tokens=False)
        if len(ids) != 1:
            raise ModelError(f"mark {choice!r} is {len(ids)} tokens of the judge, expected 1; choose other marks.")
        return ids[0]


def _completion(output: Any, tokens_in: int, seconds: float) -> Completion:
    if isinstance(output, str):
        finish_reason, _, why = output.partition(": ")
        return Completion("", finish_reason, tokens_in, 0, None, seconds, why)
    sample = output.outputs[0]
    finish_reason = sample.finish_reason if sample.finish_reason in ("stop", "length") else "error"
    error = "" if finish_reason != "error" else f"ended as {sample.finish_reason}"
    return Completion(sample.text, finish_reason, tokens_in, len(sample.token_ids), sample.cumulative_logprob, seconds, error)


def _loss(output: Any, count: int) -> float | None:
    """Mean loss of the last `count` tokens that were read."""
    last = list(zip(output.prompt_token_ids, output.prompt_logprobs, strict=True))[-count:] if count else []
    return -sum(found[token].logprob for token, found in last) / count if count else None


def _shares(logprobs: Any, ids: Sequence[int]) -> list[float] | None:
    found = [logprobs[token].logprob if token in logprobs else float("-inf") for token in ids]
    best = max(found)
    if best == float("-inf"):
        return None
    weights = [exp(value - best) for value in found]
    return [weight / sum(weights) for weight in weights]
