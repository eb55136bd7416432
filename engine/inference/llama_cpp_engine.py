"""llama.cpp as an engine: one GGUF file, greedy or sampled, with the grammar that vLLM decodes with (xgrammar).

The file is read by a process of its own (`llama_cpp_process.py`), because llama.cpp ends its process where it finds a fault. Token
ids, turn ends and text come from the Hugging Face tokenizer in the folder, not from the file's own tokenizer and template.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.contract.models import LlamaCppModel, Sampling
from engine.contract.profile import Pool
from engine.errors import ModelError
from engine.inference.chat_template import Unanswered, tokenize_chats
from engine.inference.engine import Chat, Completion, Request
from engine.inference.grammar_mask import GrammarMasks
from engine.inference.identity import identity
from engine.inference.llama_cpp_child import Died, LlamaCppChild
from engine.inference.turn_marks import encode_text


class LlamaCppEngine:
    """A loaded GGUF file. Requests are computed one after the other."""

    def __init__(self, model: LlamaCppModel, pool: Pool, folder: Path | None) -> None:
        from transformers import AutoTokenizer

        assert folder is not None
        self.model, self.folder = model, folder
        self.identity = identity(model, folder)
        self.tokens_read = 0
        self.child = LlamaCppChild(weights_file(folder), model, threads=max(1, int(pool.cpus)))
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self.ends = end_tokens(folder, self.tokenizer)
        self.masks = GrammarMasks(self.tokenizer, self.child.size)

    def reset_prefix_cache(self) -> None:
        """Forget the last prompt, so that the next one is computed as in a new process."""
        self.child.ask(do="reset")

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer each request, in order; see `engine.inference.engine.Engine`."""
        prompts = tokenize_chats(self.tokenizer, [request.chat for request in requests])
        return [self._complete(prompt, request, sampling) for prompt, request in zip(prompts, requests, strict=True)]

    def choice_probs(self, chats: Sequence[Chat], choices: Sequence[str]) -> list[list[float] | None]:
        """Return the probabilities of `choices` as next token; see `engine.inference.engine.Engine`.

        Raises:
            ModelError: a choice is not one token.
        """
        ids = [encode_text(self.tokenizer, choice) for choice in choices]
        if any(len(each) != 1 for each in ids):
            raise ModelError(f"choices {list(choices)} are not one token each of the judge {self.folder}; use other choices.")
        prompts = [self._readable(prompt) for prompt in tokenize_chats(self.tokenizer, chats)]
        self.tokens_read += sum(len(prompt) for prompt in prompts if not isinstance(prompt, Unanswered))
        tokens = [each[0] for each in ids]
        return [
            None if isinstance(prompt, Unanswered) else self.child.ask(do="choices", ids=prompt, choices=tokens)["shares"]
            for prompt in prompts
        ]

    def mean_nll(self, chats: Sequence[Chat], answers: Sequence[str]) -> list[float | None]:
        """Return the mean loss of each answer behind its chat; see `engine.inference.engine.Engine`."""
        start = self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else self.tokenizer.eos_token_id
        rendered = iter(tokenize_chats(self.tokenizer, [chat for chat in chats if chat]))
        heads = [next(rendered) if chat else [start] for chat in chats]
        return [self._mean_nll(head, encode_text(self.tokenizer, answer)) for head, answer in zip(heads, answers, strict=True)]

    def _mean_nll(self, head: list[int] | Unanswered, target: list[int]) -> float | None:
        ids = head if isinstance(head, Unanswered) else self._readable(head + target)
        if isinstance(ids, Unanswered) or not target:
            return None
        self.tokens_read += len(ids)
        return -sum(self.child.ask(do="score", ids=ids, start=len(ids) - len(target))["logprobs"]) / len(target)

    def _readable(self, prompt: list[int] | Unanswered) -> list[int] | Unanswered:
        limit = self.model.max_model_len
        if isinstance(prompt, list) and len(prompt) >= limit:
            return Unanswered("too_long", f"{len(prompt)} tokens in the prompt, the model reads {limit}")
        return prompt

    def _complete(self, prompt: list[int] | Unanswered, request: Request, sampling: Sampling) -> Completion:
        started = time.perf_counter()
        readable = self._readable(prompt)
        tokens_in = 0 if isinstance(prompt, Unanswered) else len(prompt)
        if isinstance(readable, Unanswered):
            return Completion("", readable.finish_reason, tokens_in, 0, error=readable.error)
        answered: list[int] = []
        logprob, finish_reason, error = 0.0, "length", ""
        try:
            mask = self.masks.start(request.json_schema)
            for step in range(min(sampling.max_tokens, self.model.max_model_len - tokens_in)):
                reply = self.child.ask(
                    do="next", ids=readable + answered, mask=mask and mask.allowed(), temperature=request.temperature,
                    top_p=sampling.top_p, seed=request.seed, step=step,
                )  # fmt: skip
                answered.append(reply["token"])
                logprob += reply["logprob"]
                if reply["token"] in self.ends:
                    finish_reason = "stop"
                    break
                if mask:
                    mask.accept(reply["token"])
        except (Died, ValueError, RuntimeError) as fault:  # xgrammar raises RuntimeError for a schema that it does not compile
            finish_reason, error = "error", f"{type(fault).__name__}: {fault}"
        text_ids = answered[:-1] if finish_reason == "stop" else answered
        text = self.tokenizer.decode(text_ids, skip_special_tokens=not request.keep_special_tokens)
        seconds = time.perf_counter() - started
        return Completion(text, finish_reason, tokens_in, len(answered), logprob, seconds, error)


def weights_file(folder: Path) -> Path:
    """Return the one GGUF file of `folder`.

    Raises:
        ModelError: it has none, or several.
    """
    files = sorted(folder.glob("*.gguf"))
    if len(files) != 1:
        raise ModelError(f"{folder}: found {[file.name for file in files]}, expected one file *.gguf beside config.json.")
    return files[0]


def end_tokens(folder: Path, tokenizer: Any) -> set[int]:
    """Return the ids that end an answer: the tokenizer's end of text, and those of generation_config.json, as in vLLM."""
    file = folder / "generation_config.json"
    stated = json.loads(file.read_text("utf-8")).get("eos_token_id") if file.is_file() else None
    return {token for token in (tokenizer.eos_token_id, *(stated if isinstance(stated, list) else [stated])) if token is not None}
