"""A model's distribution at each token of a given text (teacher forcing), and the mask of the text's own decoding schema."""

from typing import Any, NamedTuple

import numpy as np

from engine.contract.base import JsonSchema
from engine.inference.grammar_mask import compile_grammar

Turns = list[dict[str, str]]
"""A chat; see `engine.inference.engine.Chat`."""


class Target(NamedTuple):
    """A text to score as the model's reply to a chat."""

    chat: Turns
    text: str
    before: str = ""
    """What the model wrote between chat and text, such as its reasoning: it is read, not scored."""
    json_schema: JsonSchema | None = None
    """Schema that constrained the decoding of the text; None = scored without a mask."""
    ending: tuple[int, ...] = ()
    """Ids that end the turn, if they are others than the tokenizer's end of sequence (`asked_turn_end`)."""


class Distribution(NamedTuple):
    """What a model would have written at each of the T tokens of a target, the last of which ends the turn."""

    tokens: np.ndarray  # int32 [T], of the target in the model's own vocabulary
    ids: np.ndarray  # int32 [T, K], most probable first; -1 where the mask allows fewer than K
    logprobs: np.ndarray  # float32 [T, K], nats, temperature 1; -inf where `ids` is -1
    own: np.ndarray  # float32 [T], of `tokens`
    tail: np.ndarray  # float32 [T], log of the mass beyond the K
    tokens_in: int  # prompt tokens that were read
    masked: bool = False  # whether the mask of the schema was applied, and the rest renormalised
    ends: np.ndarray | None = None  # int32 [T], index in the text of the character after each token; None = unknown


class Unscored(NamedTuple):
    """Why a target has no distribution."""

    finish_reason: str  # too_long | refused | error
    error: str


class Masks:
    """Bit masks of the tokens that a schema allows, as vLLM's xgrammar decoding has them."""

    def __init__(self, tokenizer: Any, vocabulary: int, ending: tuple[int, ...] = ()) -> None:
        """`vocabulary` is the width of the model's logits, which may exceed the tokenizer's; `ending` as of a Target."""
        import xgrammar

        self.xgrammar, self.width, self.ending = xgrammar, vocabulary, max(1, len(ending))
        stops = sorted({ending[-1], tokenizer.eos_token_id} - {None}) if ending else None
        information = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocabulary, stop_token_ids=stops)
        self.compiler = xgrammar.GrammarCompiler(information, max_threads=1)

    def of(self, schema: JsonSchema, tokens: np.ndarray) -> np.ndarray | None:
        """Return the mask before each of `tokens`, int32 [T, ceil(V / 32)]; None if the schema does not allow them all.

        An ending of several tokens (white space before the mark) has no mask: no grammar knows it.
        """
        matcher = self.xgrammar.GrammarMatcher(compile_grammar(self.compiler, schema))
        masks = np.full((len(tokens), -(-self.width // 32)), -1, np.int32)
        text = tokens.tolist()[: -self.ending]
        for at, token in enumerate([*text, int(tokens[-1])]):
            if at < len(text) or self.ending == 1:
                matcher.fill_next_token_bitmask(masks, at)
            if not matcher.accept_token(token):
                return None
        return masks


def top(logits: Any, tokens: Any, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return `ids`, `logprobs`, `own` and `tail` of a `Distribution`, from logits [T, V] and the target's tokens [T].

    A token that a mask forbids has the logit -inf. The tail is summed over the tokens beyond the K, not taken from 1: at a tail of
    1e-6 the difference would be rounding alone.
    """
    import torch

    logprobs = logits.float().log_softmax(dim=-1)
    best = logprobs.topk(min(k, logprobs.shape[-1]), dim=-1)
    own = logprobs.gather(1, tokens.to(logprobs.device).long()[:, None])[:, 0]
    tail = logprobs.scatter(1, best.indices, -torch.inf).logsumexp(dim=-1)
    ids = torch.where(best.values.isneginf(), -1, best.indices)
    ids, values, own, tail = (each.cpu().numpy() for each in (ids, best.values, own, tail))
    return ids.astype(np.int32), values, own, tail
