"""Scores given texts by a server that returns `prompt_logprobs` of completions, as vLLM's does: token ids in, the k best out.

The prompt and the target are tokenized here, with the tokenizer in the folder that the contract names, so that the positions of the
target are known. A server that leaves `prompt_logprobs` out, or refuses it, cannot be captured from. Its requests are sent as chats
are (`engine.inference.sending`).
"""

import asyncio
import math
from collections.abc import Sequence
from math import inf
from typing import Any

import numpy as np
import openai
from pydantic import BaseModel, ConfigDict, ValidationError

from engine.errors import ModelError
from engine.inference.chat_reply import InvalidReply
from engine.inference.chat_template import Unanswered, tokenize_chats
from engine.inference.engine import Lost
from engine.inference.refusal import Body, Refusal, advice
from engine.inference.scoring import Distribution, Target, Unscored
from engine.inference.sending import PREFLIGHT_SECONDS, PROBE, Kind, Sender
from engine.inference.token_logprobs import with_ends
from engine.inference.turn_end import target_tokens
from engine.inference.turn_marks import encode_text

NONE_GIVEN = "its completions have no `prompt_logprobs`, which a capture reads; use a vLLM server, or a teacher of type vllm"
NOT_TAKEN = (400, 404, 405, 422, 501)  # what a server says that cannot score texts


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


def parse_scores(content: bytes, _: float) -> Reply:
    """Return the reply in a body.

    Raises:
        InvalidReply: it is no reply of completions.
    """
    try:
        return Reply.model_validate_json(content)
    except ValidationError as error:
        raise InvalidReply(f"no reply of completions: {error.error_count()} invalid fields: {content[:80]!r}") from None


SCORES = Kind("/completions", parse_scores)


class ScoringEndpoint:
    """Asks the completions of one server.

    Requests are sent alone until one is answered. If one is not, or later none of a batch is, a short text tells whether the texts
    or the server are the cause.
    """

    def __init__(self, sender: Sender, tokenizer: Any) -> None:
        self.sender, self.tokenizer, self.model = sender, tokenizer, sender.model
        self.has_scored = False

    async def distributions(self, targets: Sequence[Target], k: int) -> list[Distribution | Unscored | Lost]:
        """Return the distribution of each target, `Lost` for one that may be asked again.

        Raises:
            ModelError: the server gives no log-probabilities of prompts, or answers no request at all.
        """
        self.sender.limiter.bind()
        heads = tokenize_chats(self.tokenizer, [target.chat for target in targets])
        outcomes: list[Distribution | Unscored | Refusal] = []
        probed = False
        async with self.sender.connect() as client:
            while not self.has_scored and len(outcomes) < len(targets):
                at = len(outcomes)
                outcomes.append(outcome := await self._one(client, heads[at], targets[at], k, PREFLIGHT_SECONDS))
                if isinstance(outcome, Refusal):
                    await self._probe(client, targets[at], k, outcome)
                    probed = self.has_scored = True
            rest = range(len(outcomes), len(targets))
            outcomes += await asyncio.gather(*(self._one(client, heads[at], targets[at], k) for at in rest))
            refusals = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
            if refusals and len(refusals) == len(outcomes) and not probed:
                await self._probe(client, targets[-1], k, refusals[-1])
        return [Lost() if isinstance(outcome, Refusal) else outcome for outcome in outcomes]

    async def _probe(self, client: openai.AsyncOpenAI, target: Target, k: int, refused: Refusal) -> None:
        """Raise ModelError unless the server scores a short text in place of `target`, which it has `refused`."""
        short = Target(PROBE, "OK", ending=target.ending)
        [head] = tokenize_chats(self.tokenizer, [PROBE])
        outcome = await self._one(client, head, short, k, 0.0 if refused.may_pass else PREFLIGHT_SECONDS)
        if isinstance(outcome, Distribution):
            return
        refusal = outcome if isinstance(outcome, Refusal) else refused
        if refusal.words == NONE_GIVEN:
            raise ModelError(f"{self.model.url}: a teacher without log-probabilities of given texts: {NONE_GIVEN}")
        if refusal.status in NOT_TAKEN and not self.has_scored:
            raise ModelError(f"{self.model.url}: a teacher without log-probabilities of given texts: {refusal}; {NONE_GIVEN}")
        raise ModelError(
            f"{self.model.url}, model {self.model.path!r}: the server scores no text. It says: {refusal}\n"
            f"{advice(self.model, refusal, [])}. What was scored before is kept: fix it and run again."
        )

    async def _one(
        self, client: openai.AsyncOpenAI, head: list[int] | Unanswered, target: Target, k: int, patience: float = inf
    ) -> Distribution | Unscored | Refusal:
        if isinstance(head, Unanswered):
            return Unscored("error", head.error)
        before = encode_text(self.tokenizer, target.before) if target.before else []
        tokens = target_tokens(self.tokenizer, target)
        prompt = [*head, *before, *tokens.tolist()]
        body: Body = {"model": self.model.path, "prompt": prompt, "max_tokens": 1, "temperature": 0, "prompt_logprobs": k}
        reply = await self.sender(client, SCORES, body, patience)
        if isinstance(reply, Refusal):
            return reply if reply.retryable else Unscored(reply.finish_reason, str(reply))
        rows = reply.choices[0].prompt_logprobs if reply.choices else None
        if rows is None or len(rows) != len(prompt):
            return Refusal(501, NONE_GIVEN)
        self.has_scored = True
        return with_ends(distribution(rows[-len(tokens) :], tokens, k, len(prompt)), self.tokenizer, target.text)


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
