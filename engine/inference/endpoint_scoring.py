"""Scores given texts by a server that returns `prompt_logprobs` of completions, as vLLM's does: token ids in, the k best out.

The prompt and the target are tokenized here, with the tokenizer in the folder that the contract names, so that the positions of the
target are known. A server that leaves `prompt_logprobs` out, or refuses it, cannot be captured from.
"""

import math
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import openai
from pydantic import BaseModel, ConfigDict, ValidationError

from engine.errors import ModelError
from engine.inference.aimd import AimdLimiter
from engine.inference.chat_template import Unanswered, tokenize_chats
from engine.inference.engine import Lost
from engine.inference.refusal import Body, Refusal, refusal_of
from engine.inference.scoring import Distribution, Target, Unscored
from engine.inference.token_logprobs import with_ends
from engine.inference.turn_end import target_tokens
from engine.inference.turn_marks import encode_text

RETRIES = 4
NONE_GIVEN = "its completions have no `prompt_logprobs`, which a capture reads; use a vLLM server, or a teacher of type vllm"


class Entry(BaseModel):
    """One token at one position of the prompt."""

    logprob: float


class Choice(BaseModel):
    """The one completion of a reply."""

    model_config = ConfigDict(extra="ignore")

    prompt_logprobs: list[dict[int, Entry] | None] | None = None


class Reply(BaseModel):
    """The reply of `/completions`."""

    model_config = ConfigDict(extra="ignore")

    choices: list[Choice]


class ScoringEndpoint:
    """Asks the completions of one server; the limits, the key and the retries are those of its chat completions."""

    def __init__(self, model: Any, key: str, limiter: AimdLimiter, tokenizer: Any) -> None:
        self.model, self.key, self.limiter, self.tokenizer = model, key, limiter, tokenizer

    async def distributions(self, targets: Sequence[Target], k: int) -> list[Distribution | Unscored | Lost]:
        """Return the distribution of each target, `Lost` for one that may be asked again.

        Raises:
            ModelError: the server gives no log-probabilities of prompts, or answers no request at all.
        """
        import asyncio

        self.limiter.bind()
        heads = tokenize_chats(self.tokenizer, [target.chat for target in targets])
        async with openai.AsyncOpenAI(base_url=self.model.url, api_key=self.key, max_retries=0) as client:
            work = [self._one(client, head, target, k) for head, target in zip(heads, targets, strict=True)]
            outcomes = [*(await asyncio.gather(*work[:1])), *(await asyncio.gather(*work[1:]))]  # one alone tells if any can
        refusals = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
        if refusals and len(refusals) == len(outcomes):
            raise ModelError(f"{self.model.url}, model {self.model.path!r}: scored none of {len(targets)} texts: {refusals[0]}")
        return [Lost() if isinstance(outcome, Refusal) else outcome for outcome in outcomes]

    async def _one(
        self, client: openai.AsyncOpenAI, head: list[int] | Unanswered, target: Target, k: int
    ) -> Distribution | Unscored | Refusal:
        if isinstance(head, Unanswered):
            return Unscored("error", head.error)
        before = encode_text(self.tokenizer, target.before) if target.before else []
        tokens = target_tokens(self.tokenizer, target)
        prompt = [*head, *before, *tokens.tolist()]
        body: Body = {"model": self.model.path, "prompt": prompt, "max_tokens": 1, "temperature": 0, "prompt_logprobs": k}
        reply = await self._send(client, body)
        if isinstance(reply, Refusal):
            if reply.finish_reason != "error":
                return Unscored(reply.finish_reason, str(reply))
            if reply.status in (400, 404, 405, 422, 501):
                raise ModelError(f"{self.model.url}: a teacher without log-probabilities of given texts: {reply}; {NONE_GIVEN}")
            return reply
        rows = reply.choices[0].prompt_logprobs if reply.choices else None
        if rows is None or len(rows) != len(prompt):
            raise ModelError(f"{self.model.url}: a teacher without log-probabilities of given texts: {NONE_GIVEN}")
        return with_ends(distribution(rows[-len(tokens) :], tokens, k, len(prompt)), self.tokenizer, target.text)

    async def _send(self, client: openai.AsyncOpenAI, body: Body) -> Reply | Refusal:
        """Send a request until it is answered or refused for good, at most `retries` times more."""
        import asyncio

        refusal = Refusal(0, "not sent")
        for attempt in range(1 + (RETRIES if self.model.retries is None else self.model.retries)):
            async with self.limiter.slot() as epoch:
                try:
                    options: Any = {"timeout": self.model.deadline_seconds}
                    reply = await client.post("/completions", cast_to=httpx.Response, body=body, options=options)
                    self.limiter.on_success()
                    return Reply.model_validate_json(reply.content)
                except openai.APIError as error:
                    refusal = refusal_of(error, self.key if self.model.key_env else "")
                except ValidationError as error:
                    return Refusal(501, f"no reply of completions: {error.error_count()} invalid fields")
            if not refusal.may_pass:
                return refusal
            self.limiter.on_overload(epoch)
            await asyncio.sleep(min(30.0, refusal.retry_after or 0.5 * 2**attempt))
        return refusal


def distribution(rows: Sequence[dict[int, Entry] | None], tokens: np.ndarray, k: int, tokens_in: int) -> Distribution:
    """Return the distribution from a server's rows, one a token: its k best and the token itself; the tail is what they leave."""
    ids, logprobs = np.full((len(tokens), k), -1, np.int32), np.full((len(tokens), k), -np.inf, np.float32)
    own, tail = np.full(len(tokens), -np.inf, np.float32), np.full(len(tokens), -np.inf, np.float32)
    for at, (row, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
        best = sorted((row or {}).items(), key=lambda item: -item[1].logprob)[:k]
        ids[at, : len(best)] = [token_id for token_id, _ in best]
        logprobs[at, : len(best)] = [entry.logprob for _, entry in best]
        own[at] = row[token].logprob if row and token in row else -np.inf
        rest = 1.0 - sum(math.exp(entry.logprob) for _, entry in best)
        tail[at] = math.log(rest) if rest > 1e-7 else -np.inf
    return Distribution(tokens, ids, logprobs, own, tail, tokens_in)
