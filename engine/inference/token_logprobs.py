"""Log-probabilities of the tokens of a text, and where in the text each token ends: rows.TOKEN_LOGPROBS."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from math import exp
from typing import Any, TypeVar

import numpy as np

from engine.inference.scoring import Distribution, Unscored
from engine.rows import Row

T = TypeVar("T", bound=Distribution | Unscored | Any)
DIGITS = 4  # of a log-probability: with bfloat16 the next one is noise
UNKNOWN = -1
REPLACEMENT = "\ufffd"
MOST_TOKENS = 4  # of a character: it has at most four bytes


def of_pieces(text: str, pieces: Sequence[tuple[str, float]]) -> list[Row]:
    """Return the entries of a text that was written as `pieces` (decoded token, log-probability), the end of the turn last or not.

    The ends are unknown if the pieces are not the text: a character may be several tokens, and a server may clean the text.
    """
    known = "".join(piece for piece, _ in pieces).startswith(text)  # special tokens behind the text are decoded, too
    ends = accumulate(len(piece) for piece, _ in pieces)
    return [
        {"end": min(end, len(text)) if known else UNKNOWN, "logprob": round(logprob, DIGITS)}
        for end, (_, logprob) in zip(ends, pieces, strict=True)
    ]


def of_sample(text: str, pieces: Sequence[str], logprobs: Any) -> list[Row] | None:
    """Return the entries of a sample of vLLM, from its `FlatLogprobs` of the chosen tokens; None if it gives none."""
    return of_pieces(text, list(zip(pieces, logprobs.logprobs, strict=True))) if logprobs else None


def whole_characters(pieces: Sequence[str], token_ids: Sequence[int], decode: Callable[[list[int]], str]) -> list[str]:
    """Return the decoded tokens, where the tokens of one character are the empty text, and the last of them the character.

    `pieces`: the tokens, each decoded alone. One that ends within a character is decoded as the replacement character then; what is
    no character after MOST_TOKENS tokens is left as it is.
    """
    found, open_ids = list[str](), list[int]()
    for piece, token in zip(pieces, token_ids, strict=True):
        if open_ids or piece.endswith(REPLACEMENT):
            open_ids.append(token)
            piece = decode(open_ids)
        is_whole = not piece.endswith(REPLACEMENT) or len(open_ids) == MOST_TOKENS
        found.append(piece if is_whole else "")
        if is_whole:
            open_ids = []
    return found


def of_distribution(scored: Distribution) -> list[Row]:
    """Return the entries of a text that was scored."""
    ends = np.full(len(scored.tokens), UNKNOWN) if scored.ends is None else scored.ends
    return [{"end": end, "logprob": round(own, DIGITS)} for end, own in zip(ends.tolist(), scored.own.tolist(), strict=True)]


def with_ends(scored: T, tokenizer: Any, text: str) -> T:
    """Return the distribution of `text` with the ends of its tokens, if the tokenizer tells where they end."""
    if not isinstance(scored, Distribution) or not getattr(tokenizer, "is_fast", False):
        return scored
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    if list(encoded["input_ids"]) != scored.tokens[:-1].tolist():
        return scored
    ends = [end for _, end in encoded["offset_mapping"]]
    return scored._replace(ends=np.asarray([*ends, len(text)], np.int32))  # type: ignore[return-value]


def within(entries: Sequence[Row] | None, text: str, part: str) -> list[Row] | None:
    """Return the entries of `part`, which ends `text` but for spaces; None if the ends are unknown or `part` is elsewhere."""
    if not entries or part == text:
        return list(entries) if entries else None
    start = text.rfind(part) if part else -1
    if start < 0 or entries[0]["end"] == UNKNOWN:
        return None
    kept = [entry for entry in entries if entry["end"] > start]
    return [{**entry, "end": min(entry["end"] - start, len(part))} for entry in kept]


def loss(output: Any, count: int) -> float | None:
    """Return the mean loss of the last `count` tokens of the prompt of a vLLM output; None if there are none."""
    last = list(zip(output.prompt_token_ids, output.prompt_logprobs, strict=True))[-count:] if count else []
    return -sum(logprobs[token].logprob for token, logprobs in last) / count if count else None


def shares(logprobs: Any, ids: Sequence[int]) -> list[float] | None:
    """Return the probabilities of the tokens `ids`, summing to 1; None if none of them is among `logprobs`."""
    values = [logprobs[token].logprob if token in logprobs else float("-inf") for token in ids]
    best = max(values)
    if best == float("-inf"):
        return None
    weights = [exp(value - best) for value in values]
    return [weight / sum(weights) for weight in weights]
