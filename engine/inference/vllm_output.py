"""What vLLM returns, as completions; and prompts that it does not get."""

from collections.abc import Callable, Sequence
from typing import Any

from engine.inference.chat_template import Unanswered
from engine.inference.engine import Completion
from engine.inference.token_logprobs import of_sample


def too_long(prompt: list[int] | Unanswered, limit: int) -> Unanswered | None:
    """Return why a prompt cannot be read by a model of `limit` tokens; None if it can."""
    if isinstance(prompt, Unanswered) or len(prompt) < limit:
        return None
    return Unanswered("too_long", f"{len(prompt)} tokens in the prompt, the model reads {limit}")


def completion_of(
    output: Any, prompt: list[int] | Unanswered, seconds: float, decode: Callable[[Sequence[int]], Sequence[str]]
) -> Completion:  # fmt: skip
    """Return the completion of vLLM's output; `decode` returns the text that each token adds."""
    tokens_in = 0 if isinstance(prompt, Unanswered) else len(prompt)
    if isinstance(output, Unanswered):
        return Completion("", output.finish_reason, tokens_in, 0, None, seconds, output.error)
    sample = output.outputs[0]
    finish_reason = sample.finish_reason if sample.finish_reason in ("stop", "length") else "error"
    error = "" if finish_reason != "error" else f"ended as {sample.finish_reason}"
    counts = tokens_in, len(sample.token_ids), sample.cumulative_logprob, seconds
    completion = Completion(sample.text, finish_reason, *counts, error, token_ids=tuple(sample.token_ids))
    pieces = decode(sample.token_ids) if sample.logprobs else ()
    return completion._replace(token_logprobs=of_sample(sample.text, pieces, sample.logprobs))
