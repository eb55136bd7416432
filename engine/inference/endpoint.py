"""Any server that speaks OpenAI's chat completions: another vLLM, a gateway, a provider.

A request that the server fails (5xx), loses or garbles is asked again, at most `retries` times; one that it turns away (429) costs
nothing and is asked until its deadline, which begins when it first leaves. What is a request's own fault (400) is final. Keys come
from the environment and go nowhere else.
"""

import asyncio
import json
import os
import random
from collections.abc import Sequence
from math import exp, inf, isfinite
from pathlib import Path
from typing import Any, NamedTuple

import openai

from engine.contract.models import EndpointModel, Sampling
from engine.contract.profile import Pool
from engine.errors import ModelError
from engine.inference.aimd import AimdLimiter
from engine.inference.engine import Chat, Completion, Request
from engine.inference.identity import identity

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds before the first and at most before a later retry
TOP = 20  # most alternatives that the interface gives for a token
FINISH_REASONS = {"stop": "stop", "length": "length", "content_filter": "refused"}
OWN_FAULT = (400, 413, 422)  # of the request: final
AGAIN = (408, 409, 429)  # and 5xx: may pass. What remains (401 to 405) is between us and the server, and cost nothing


class Said(NamedTuple):
    """What became of one request: a message of the server, or why there is none."""

    choice: Any = None
    usage: Any = None
    seconds: float = 0.0
    error: str = ""
    retryable: bool = False


class Garbled(Exception):
    """The server answered with something that is no chat completion."""


class EndpointEngine:
    """Asks a server; `pool.max_num_seqs` is the most requests in flight."""

    def __init__(self, model: EndpointModel, pool: Pool, folder: Path | None) -> None:
        self.model = model
        self.identity = identity(model, folder)
        self.window = AimdLimiter(pool.max_num_seqs)
        self.key = _key(model)
        self.has_answered = False
        self.tokens_read = 0

    def reset_prefix_cache(self) -> None:
        """Caches are the server's business."""

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer each request, in order; see `engine.inference.engine.Engine`.

        Raises:
            ModelError: the server answered none of the requests: it is away, refuses the key or does not know the model.
        """
        return [_completion(said) for said in self._ask([self._body(request, sampling) for request in requests])]

    def choice_probs(self, chats: Sequence[Chat], choices: Sequence[str]) -> list[list[float] | None]:
        """Return probabilities of the choices, from the most likely first tokens; see `engine.inference.engine.Engine`."""
        asked = {"model": self.model.path, "max_tokens": 1, "temperature": 0.0, "logprobs": True, "top_logprobs": TOP}
        found = self._ask([{**asked, "messages": chat} for chat in chats])
        self.tokens_read += sum((said.usage or {}).get("prompt_tokens", 0) for said in found)
        return [_shares(said.choice, choices) for said in found]

    def mean_nll(self, chats: Sequence[Chat], answers: Sequence[str]) -> list[float | None]:
        """Raise ModelError: chat completions say nothing of what the server reads."""
        raise ModelError(f"{self.model.url}: gives no log probabilities of a prompt; use a model of type vllm.")

    def _body(self, request: Request, sampling: Sampling) -> dict[str, Any]:
        body = {
            "model": self.model.path,
            "messages": request.chat,
            "max_tokens": sampling.max_tokens,
            "temperature": request.temperature,
            "top_p": sampling.top_p if request.temperature else 1.0,
            "seed": request.seed % 2**31,
        }
        if self.model.logprobs:
            body["logprobs"] = True
        if request.json_schema is not None:
            schema = {"name": "answer", "schema": request.json_schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def _ask(self, bodies: Sequence[dict[str, Any]]) -> list[Said]:
        said = asyncio.run(self._ask_all(bodies))
        self.has_answered |= any(not one.retryable for one in said)
        bad_luck = len(said) == 1 and self.has_answered  # of one row, with a sound server
        if said and all(one.retryable for one in said) and not bad_luck:
            raise ModelError(
                f"{self.model.url}, model {self.model.path!r}, answered none of {len(said)} requests; the last: {said[-1].error}. "
                "What was answered before is kept: mend it and run again."
            )
        return said

    async def _ask_all(self, bodies: Sequence[dict[str, Any]]) -> list[Said]:
        self.window.begin()
        async with openai.AsyncOpenAI(base_url=self.model.url, api_key=self.key, max_retries=0) as client:
            return await asyncio.gather(*(self._ask_one(client, body) for body in bodies))

    async def _ask_one(self, client: openai.AsyncOpenAI, body: dict[str, Any]) -> Said:
        clock = asyncio.get_running_loop().time
        deadline, failures, turned_away, error = inf, 0, 0, ""
        while failures <= self.model.retries:
            async with self.window.place() as since:
                deadline = min(deadline, clock() + self.model.deadline_seconds)
                try:
                    async with asyncio.timeout_at(deadline):
                        return await self._try(client, body, since)
                except TimeoutError:
                    return Said(error=f"no answer within {self.model.deadline_seconds:g} s; {error}", retryable=True)
                except (openai.APIError, Garbled) as failure:
                    error, status = self._plain(failure), getattr(failure, "status_code", 500)
                    if status in OWN_FAULT:
                        return Said(error=error)
                    if status < 500 and status not in AGAIN:
                        return Said(error=error, retryable=True)
                    turned_away += status == 429
                    failures += status != 429
                    wait = _wait(failure, failures + turned_away - 1)
            if clock() + wait > deadline:
                break
            await asyncio.sleep(wait)
        return Said(error=f"{error} (asked {failures + turned_away} times)", retryable=True)

    def _plain(self, error: Exception) -> str:
        said = str(error).replace(self.key, "***") if self.model.key_env else str(error)
        return f"{type(error).__name__}: {said[:200]}"

    async def _try(self, client: openai.AsyncOpenAI, body: dict[str, Any], since: int) -> Said:
        started = asyncio.get_running_loop().time()
        try:
            reply = await client.chat.completions.with_raw_response.create(**body, timeout=self.model.deadline_seconds)
        except (openai.RateLimitError, openai.InternalServerError):
            self.window.overloaded(since)
            raise
        found = _read(reply.content)
        self.window.answered()
        return Said(found["choices"][0], found.get("usage"), asyncio.get_running_loop().time() - started)


def _key(model: EndpointModel) -> str:
    if model.key_env is None:
        return "none"
    key = os.environ.get(model.key_env, "")
    if not key:
        raise ModelError(f"{model.url}: the environment variable {model.key_env} holds no key. Set it where the actors run.")
    return key


def _read(content: bytes) -> dict[str, Any]:
    """Return the body of a reply that is what was asked for: one choice with a message."""
    try:
        found = json.loads(content)
        choices = found["choices"]
        if len(choices) != 1:
            raise Garbled(f"{len(choices)} choices, expected 1")
        if not isinstance(choices[0]["message"].get("content") or "", str):
            raise Garbled("a message whose content is no text")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Garbled(f"no chat completion: {type(error).__name__}: {content[:80]!r}") from None
    return found


def _tokens(choice: Any) -> list[dict[str, Any]]:
    """The tokens of an answer with their log probabilities; none if these are garbled: the text was paid for all the same."""
    try:
        tokens = choice["logprobs"]["content"]
        for one in [one for token in tokens for one in (token, *(token.get("top_logprobs") or []))]:
            if not (isinstance(one["token"], str) and isfinite(one["logprob"])):
                return []
    except (KeyError, TypeError, AttributeError):
        return []
    return tokens


def _completion(said: Said) -> Completion:
    if said.choice is None:
        too_long = "context length" in said.error or "context_length" in said.error or "maximum model length" in said.error
        return Completion("", "too_long" if too_long else "error", 0, 0, None, said.seconds, said.error, said.retryable)
    usage = said.usage if isinstance(said.usage, dict) else {}
    reason = said.choice.get("finish_reason")
    finish_reason = FINISH_REASONS.get(reason, "error")
    tokens = _tokens(said.choice)
    logprob = sum(token["logprob"] for token in tokens) if tokens else None
    text = said.choice["message"].get("content") or ""
    error = "" if finish_reason != "error" else f"ended as {reason}"
    return Completion(
        text, finish_reason, usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0), logprob, said.seconds, error
    )


def _shares(choice: Any, choices: Sequence[str]) -> list[float] | None:
    tokens = _tokens(choice)
    if not tokens:
        return None
    found = {mark: 0.0 for mark in choices}
    for one in tokens[0].get("top_logprobs") or []:
        if (mark := one["token"].strip()) in found:
            found[mark] += exp(min(0.0, one["logprob"]))
    total = sum(found.values())
    return [found[mark] / total for mark in choices] if total else None


def _wait(failure: Exception, attempt: int) -> float:
    """Seconds before the next attempt: what the server asks for, else twice as long each time, with jitter."""
    response = getattr(failure, "response", None)
    asked = response.headers.get("retry-after", "") if response is not None else ""
    longest = min(LONGEST_WAIT, FIRST_WAIT * 2**attempt)
    return min(float(asked), LONGEST_WAIT) if asked.replace(".", "", 1).isdigit() else longest * random.uniform(0.5, 1.0)
