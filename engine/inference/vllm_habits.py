"""What vLLM does otherwise here than by itself, where no argument of its own says so."""

from functools import cache, lru_cache
from typing import Any


@cache
def decode_no_tokens(processor: Any) -> None:
    """Let vLLM not decode each token that has a log-probability, at each step: those of an answer are decoded at its end.

    `processor`: its class `LogprobsProcessor`.
    """
    made = processor.from_new_request
    processor.from_new_request = lambda tokenizer, request: made(None, request)


def remember_tokens(tokenizer: Any) -> None:
    """Keep the text of each token once it was decoded alone: every token of an answer is."""
    decode = tokenizer.decode
    alone = lru_cache(maxsize=None)(lambda token: decode([token]))  # at most the vocabulary

    def remembered(tokens: Any, *args: Any, **options: Any) -> str:
        is_alone = isinstance(tokens, list) and len(tokens) == 1 and not args and not options
        return alone(tokens[0]) if is_alone else decode(tokens, *args, **options)

    tokenizer.decode = remembered


def compile_grammars_at_once(llm: Any) -> None:
    """Make vLLM compile the grammar of a request when it is added, not in a thread.

    vLLM schedules a request once its grammar is compiled. With a thread, a loaded machine computes other requests together, and
    with bfloat16 that moves the logits. An engine in a process of its own (GPUs) begins before all requests have arrived anyway.
    """
    core = getattr(llm.llm_engine.engine_core, "engine_core", None)
    if core is not None:
        core.structured_output_manager._use_async_grammar_compilation = False
