"""vLLM in the actor's own process. One engine per process; never beside training or sentence-transformers."""

import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.contract.models import Sampling, VllmModel
from engine.contract.profile import Pool
from engine.errors import ModelError
from engine.inference.chat_template import Unanswered, refused_by, tokenize_chats
from engine.inference.decodable import decodable
from engine.inference.engine import Chat, Completion, Request
from engine.inference.identity import identity
from engine.inference.memory import load_within_memory
from engine.inference.scoring import Distribution, Masks, Target, Unscored
from engine.inference.token_logprobs import loss, shares, whole_characters, with_ends
from engine.inference.turn_end import target_tokens
from engine.inference.turn_marks import encode_text
from engine.inference.vllm_batcher import VllmBatcher
from engine.inference.vllm_habits import compile_grammars_at_once, decode_no_tokens, remember_tokens
from engine.inference.vllm_output import completion_of, too_long
from engine.inference.vllm_scoring import KEY, Scores, Wanted, distribution, merged, wanted_of

log = logging.getLogger(__name__)

PREFILL = 4096  # prompt tokens of one step on a CPU
BLOCK = 32  # tokens of a prefix-cache block; the default of 128 on CPU would miss most shared prompts


def engine_arguments(model: VllmModel, pool: Pool, folder: Path) -> dict[str, Any]:
    """Return the arguments of `vllm.LLM`.

    Without GPUs: a KV cache of fixed size and no compilation. With GPUs: tensor parallelism over the whole GPUs of the pool, and
    `pool.pipeline` pipeline stages, whose workers run in the actor's placement group.
    """
    arguments: dict[str, Any] = {
        "model": str(folder),
        "dtype": model.dtype,
        "max_model_len": model.max_model_len,
        "max_num_seqs": pool.max_num_seqs,
        "enable_prefix_caching": True,
        "seed": 0,
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "worker_extension_cls": "engine.inference.vllm_scoring.ScoringWorker",
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
        if model.batch_invariant:
            _require_batch_invariance(pool)
        import vllm.exceptions  # here, so that importing this file stays cheap

        self.vllm = vllm
        self.refusals = (ValueError, vllm.exceptions.VLLMClientError)  # caused by a request; the engine is sound
        self.model = model
        self.identity = identity(model, folder)
        self.folder = folder
        self.tokens_read = 0
        self.masks: dict[tuple[int, ...], Masks] = {}
        self.refused: int | None = 0  # chats that the template refused before it rendered the first; None once it has rendered one
        try:
            arguments = engine_arguments(model, pool, folder)
            self.llm = load_within_memory(lambda sequences: vllm.LLM(**{**arguments, "max_num_seqs": sequences}), pool.max_num_seqs)
        except Exception as error:  # weights, memory or machine: there is nothing that vLLM does not raise here
            raise ModelError(f"vLLM cannot serve {folder}: {type(error).__name__}: {error}") from error
        compile_grammars_at_once(self.llm)
        decode_no_tokens(vllm.v1.engine.logprobs.LogprobsProcessor)
        self.tokenizer: Any = self.llm.get_tokenizer()
        remember_tokens(self.tokenizer)

    def reset_prefix_cache(self) -> None:
        """Empty the prefix cache: with bfloat16 it decides how a prompt is computed, and so the last digits of its logits."""
        self.llm.reset_prefix_cache()

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer each request, in order; see `engine.inference.engine.Engine`.

        Raises:
            ModelError: the chat template refuses every chat.
        """
        started = time.perf_counter()
        params = [self.params(request, sampling) for request in requests]
        tokenized = zip(self.tokenize([request.chat for request in requests]), params, strict=True)
        prompts = [refused if isinstance(refused, Unanswered) else prompt for prompt, refused in tokenized]
        outputs = self._generate(prompts, params)
        seconds = (time.perf_counter() - started) / max(1, len(requests))
        pairs = zip(outputs, prompts, strict=True)
        return [completion_of(output, prompt, seconds, self.decode_each) for output, prompt in pairs]

    def batcher(self, at_once: int) -> VllmBatcher:
        """Return what computes requests as they come; see `engine.inference.batcher`."""
        return VllmBatcher(self, at_once)

    def choice_probs(self, chats: Sequence[Chat], choices: Sequence[str]) -> list[list[float] | None]:
        """Return the probabilities of `choices` as next token; see `engine.inference.engine.Engine`."""
        ids = [self._single_token(choice) for choice in choices]
        params = self.vllm.SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=ids)
        outputs = self._generate(self.tokenize(chats), [params] * len(chats))
        self._count_read(outputs)
        return [None if isinstance(output, Unanswered) else shares(output.outputs[0].logprobs[0], ids) for output in outputs]

    def mean_nll(self, chats: Sequence[Chat], answers: Sequence[str]) -> list[float | None]:
        """Return the mean loss of each answer behind its chat; see `engine.inference.engine.Engine`."""
        start = [self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else self.tokenizer.eos_token_id]
        targets = [encode_text(self.tokenizer, answer) for answer in answers]
        rendered = iter(self.tokenize([chat for chat in chats if chat]))
        heads = [next(rendered) if chat else start for chat in chats]
        pairs = zip(heads, targets, strict=True)
        prompts = [head if isinstance(head, Unanswered) else head + target for head, target in pairs]
        params = self.vllm.SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0)
        outputs = self._generate(prompts, [params] * len(prompts))
        self._count_read(outputs)
        pairs = zip(outputs, targets, strict=True)
        return [None if isinstance(output, Unanswered) else loss(output, len(target)) for output, target in pairs]

    def distributions(self, targets: Sequence[Target], k: int) -> list[Distribution | Unscored]:
        """Return the distribution at each token of each target; see `engine.inference.engine.Engine`."""
        prompts, wanted = list[list[int] | Unanswered](), dict[int, Wanted]()
        for number, (target, head) in enumerate(zip(targets, self.tokenize([each.chat for each in targets]), strict=True)):
            if isinstance(head, list):
                tokens = target_tokens(self.tokenizer, target)
                head = [*head, *encode_text(self.tokenizer, target.before)] if target.before else head
                head, wanted[number] = wanted_of(head, tokens, self._mask(target, tokens))
            prompts.append(head)
        outputs, pieces = self._score(prompts, range(len(prompts)), wanted, k, skip_cache=False)
        found = {number: merged(pieces.get(number, {}), len(each.tokens)) for number, each in wanted.items()}
        again = [n for n in wanted if found[n] is None and not isinstance(outputs[n], Unanswered)]
        if again:  # the cache held some of their targets' tokens, by another target with the same beginning
            _, pieces = self._score([prompts[n] for n in again], again, wanted, k, skip_cache=True)
            found |= {number: merged(pieces[number], len(wanted[number].tokens)) for number in again}
        self._count_read(outputs)
        return [
            Unscored(output.finish_reason, output.error)
            if isinstance(output, Unanswered)
            else with_ends(distribution(wanted[n], found[n], len(output.prompt_token_ids)), self.tokenizer, targets[n].text)
            for n, output in enumerate(outputs)
        ]

    def _score(
        self,
        prompts: Sequence[list[int] | Unanswered],
        numbers: Sequence[int],
        wanted: dict[int, Wanted],
        k: int,
        *,
        skip_cache: bool,
    ) -> tuple[list[Any], Scores]:
        """Return vLLM's outputs, and the scores of the requests called `numbers`."""
        options = {"max_tokens": 1, "temperature": 0, "skip_reading_prefix_cache": skip_cache}
        params = [self.vllm.SamplingParams(**options, extra_args={KEY: number}) for number in numbers]
        self.llm.collective_rpc("begin_scoring", args=(wanted, k))
        try:
            outputs = self._generate(prompts, params)
        finally:
            scores = self.llm.collective_rpc("end_scoring")
        return outputs, next(filter(None, scores), {})

    def _mask(self, target: Target, tokens: np.ndarray) -> np.ndarray | None:
        if target.json_schema is None:
            return None
        if target.ending not in self.masks:
            self.masks[target.ending] = Masks(self.tokenizer, self.llm.model_config.get_vocab_size(), target.ending)
        return self.masks[target.ending].of(target.json_schema, tokens)

    def _generate(self, prompts: Sequence[list[int] | Unanswered], params: Sequence[Any]) -> list[Any]:
        """Return vLLM's outputs in order; `Unanswered` in place of an output says why a request has none."""
        limit = self.model.max_model_len
        outputs: list[Any] = [too_long(prompt, limit) or prompt for prompt in prompts]
        fitting = [index for index, output in enumerate(outputs) if not isinstance(output, Unanswered)]
        answers = self._isolate([outputs[index] for index in fitting], [params[index] for index in fitting])
        for index, answer in zip(fitting, answers, strict=True):
            outputs[index] = answer
        return outputs

    def _isolate(self, prompts: Sequence[list[int]], params: Sequence[Any]) -> list[Any]:
        """Generate; halve a batch that vLLM refuses until the refused request is alone."""
        if not prompts:
            return []
        try:
            return self.llm.generate([{"prompt_token_ids": ids} for ids in prompts], list(params), use_tqdm=False)
        except self.refusals as error:  # one refused request refuses the whole call
            if len(prompts) == 1:
                return [Unanswered("error", str(error))]
            log.warning("vLLM refused a batch of %d, halving it: %s", len(prompts), error)
            middle = len(prompts) // 2
            return self._isolate(prompts[:middle], params[:middle]) + self._isolate(prompts[middle:], params[middle:])

    def params(self, request: Request, sampling: Sampling) -> Any:
        """Return vLLM's parameters of a request, or `Unanswered` if it refuses them: the engine has seen nothing yet."""
        structured = None
        try:
            if request.json_schema is not None:
                structured = self.vllm.sampling_params.StructuredOutputsParams(json=decodable(request.json_schema).schema)
            return self.vllm.SamplingParams(
                temperature=request.temperature,
                top_p=sampling.top_p if request.temperature else 1.0,
                max_tokens=sampling.max_tokens,
                seed=request.seed,
                logprobs=0,
                flat_logprobs=True,  # in lists: no object of a token
                skip_special_tokens=not request.keep_special_tokens,
                skip_clone=True,  # they are of this request alone
                structured_outputs=structured,
            )
        except self.refusals as error:
            return Unanswered("error", f"vLLM refuses the request's parameters: {' '.join(str(error).split())}")

    def tokenize(self, chats: Sequence[Chat]) -> list[list[int] | Unanswered]:
        """Return the token ids of each chat, or why its template refuses it.

        Raises:
            ModelError: the template has rendered no chat yet and refuses all of several.
        """
        prompts = tokenize_chats(self.tokenizer, chats)
        refused = [prompt for prompt in prompts if isinstance(prompt, Unanswered)]
        if len(refused) < len(prompts):
            self.refused = None
        elif self.refused is not None and refused:
            self.refused += len({json.dumps(chat) for chat in chats})
            if self.refused > 1:  # of a single chat it is not known whether it is the odd one
                raise refused_by(self.folder, refused[0])
        return prompts

    def decode_each(self, token_ids: Sequence[int]) -> list[str]:
        """Return the text that each token of an answer adds."""
        from vllm.tokenizers.detokenizer_utils import convert_ids_list_to_tokens

        alone = convert_ids_list_to_tokens(self.tokenizer, list(token_ids))
        return whole_characters(alone, token_ids, self.tokenizer.decode)

    def _count_read(self, outputs: Sequence[Any]) -> None:
        self.tokens_read += sum(len(output.prompt_token_ids) for output in outputs if not isinstance(output, Unanswered))

    def _single_token(self, choice: str) -> int:
        ids = self.tokenizer.encode(choice, add_special_tokens=False)
        if len(ids) != 1:
            raise ModelError(f"choice {choice!r} is {len(ids)} tokens of the judge {self.folder}, expected 1; use other choices.")
        return ids[0]


def _require_batch_invariance(pool: Pool) -> None:
    """Turn on vLLM's batch-invariant kernels, which it chooses when it is imported.

    Raises:
        ModelError: the pool has no GPU.
    """
    if not pool.gpus:
        raise ModelError(
            "model.batch_invariant: found true with a pool of no GPU, for which vLLM has no batch-invariant kernels. On CPUs use "
            "`dtype: float32`, with which greedy answers do not depend on their batch."
        )
    os.environ["VLLM_BATCH_INVARIANT"] = "1"
