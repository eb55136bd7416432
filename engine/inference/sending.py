"""Sends a request to a server until it is answered or refused for good: the rules are the same for chats and for texts to score.

A request that fails (5xx), is lost or gets an invalid reply is sent again, at most `retries` times. One that is turned away (429)
costs nothing and is sent until its deadline, which begins when it first leaves. Before each further attempt it waits as long as the
server asks, else twice as long each time.
"""

import asyncio
import random
from collections.abc import Callable
from math import inf
from typing import Generic, NamedTuple, TypeVar

import httpx
import openai

from engine.contract.models import EndpointModel
from engine.inference.aimd import AimdLimiter
from engine.inference.chat_reply import InvalidReply
from engine.inference.refusal import MAX_WORDS, Body, Refusal, refusal_of

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds before the first and at most before a later attempt, where the server names no pause
DOUBLINGS = 10  # of the first wait
PREFLIGHT_SECONDS = 40.0  # after which the first request is not sent again: nothing says yet that the server ever answers
TURNED_AWAY_SECONDS = 75.0  # the same after 429: quotas are counted by the minute
PROBE: list[dict[str, str]] = [{"role": "user", "content": "Say OK."}]
NOT_SENT = 400  # in place of a server's status, which would be this one

T = TypeVar("T")


class Kind(NamedTuple, Generic[T]):
    """What is asked of a server."""

    path: str
    """Behind its base URL."""
    parse: Callable[[bytes, float], T]
    """Returns the answer in a reply body that took so many seconds; raises InvalidReply if there is none."""


class Sender:
    """Requests to one server, of any kind; `limiter` bounds those in flight."""

    def __init__(self, model: EndpointModel, key: str, limiter: AimdLimiter) -> None:
        self.model, self.key, self.limiter = model, key, limiter

    def connect(self) -> openai.AsyncOpenAI:
        """Return a client of the server, which the caller closes; attempts are counted here, so it makes none of its own."""
        return openai.AsyncOpenAI(base_url=self.model.url, api_key=self.key, max_retries=0)

    async def __call__(self, client: openai.AsyncOpenAI, kind: Kind[T], body: Body, patience: float = inf) -> T | Refusal:
        """Send a request until it is answered or refused for good.

        A further attempt begins at most `patience` seconds after the first; with some patience, the pause that the server names
        first is waited for, and TURNED_AWAY_SECONDS after 429.
        """
        clock = asyncio.get_running_loop().time
        started: float | None = None
        refusal: Refusal | None = None
        failures = turned_away = 0
        while True:
            async with self.limiter.slot() as epoch:
                started = clock() if started is None else started
                deadline = started + self.model.deadline_seconds
                try:
                    async with asyncio.timeout_at(deadline):
                        outcome = await self._attempt(client, kind, body, epoch)
                except TimeoutError:
                    return self._late(refusal, failures + turned_away)
            if not isinstance(outcome, Refusal) or not outcome.may_pass:
                return outcome
            turned_away += outcome.status == 429
            failures += outcome.status != 429
            attempts, refusal = failures + turned_away, outcome
            wait = _wait(outcome, attempts - 1, left=deadline - clock())
            if patience:
                patience = max(patience, TURNED_AWAY_SECONDS if outcome.status == 429 else 0.0)
                patience = max(patience, clock() - started + wait) if attempts == 1 else patience
            rest = started + patience - clock()
            if outcome.retry_after is None and FIRST_WAIT < rest < wait:
                wait = rest - FIRST_WAIT / 2  # the last attempt is at the end of the patience, not a wait before it
            if failures > self.model.retries or clock() + wait > min(deadline, started + patience):
                return outcome._replace(words=f"{outcome.words} (asked {attempts} times)")
            await asyncio.sleep(wait)

    def _late(self, refusal: Refusal | None, attempts: int) -> Refusal:
        """Return that the deadline is over, with what the server said last, if anything."""
        late = f"no answer within {self.model.deadline_seconds:g} s"
        if refusal is None:
            return Refusal(0, late, timed_out=True)
        return refusal._replace(words=f"{refusal.words} (asked {attempts} times, {late})", timed_out=True)

    async def _attempt(self, client: openai.AsyncOpenAI, kind: Kind[T], body: Body, epoch: int) -> T | Refusal:
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            reply = await client.post(
                kind.path, cast_to=httpx.Response, body=body, options={"timeout": self.model.deadline_seconds}
            )
            answer = kind.parse(reply.content, clock() - started)
        except (openai.APIError, InvalidReply) as error:
            refusal = refusal_of(error, self.key if self.model.key_env else "")
            if refusal.status == 429 or refusal.status >= 500:
                self.limiter.on_overload(epoch)
            return refusal
        except (ValueError, TypeError) as error:  # the body cannot be written, such as half a surrogate pair: a fault of this row
            return Refusal(NOT_SENT, f"not sent: {type(error).__name__}: {error}"[:MAX_WORDS])
        self.limiter.on_success()
        return answer


def _wait(refusal: Refusal, attempt: int, left: float) -> float:
    """Return seconds before the next attempt: what the server asks for, else twice as long each time; with jitter, never none.

    A pause that the server names is kept to in full if it ends within the `left` seconds before the deadline.
    """
    if refusal.retry_after is not None:
        named = refusal.retry_after if refusal.retry_after < left else min(refusal.retry_after, LONGEST_WAIT)
        return named + FIRST_WAIT * random.uniform(0.5, 1.0)
    return min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(attempt, DOUBLINGS)) * random.uniform(0.5, 1.0)
