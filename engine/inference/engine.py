"""The one interface of models, and how one is chosen."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from engine.contract.base import JsonSchema
from engine.contract.models import Model, Sampling
from engine.contract.profile import Pool
from engine.rows import Row

Chat = list[dict[str, str]]
"""Turns of a conversation: role (system, user, assistant) and content."""


class Completion(NamedTuple):
    """One sampled answer and how it ended."""

    text: str
    finish_reason: str  # one of rows.ENDINGS
    tokens_in: int
    tokens_out: int
    logprob: float | None = None  # sum over the answer's tokens, nats
    seconds: float = 0.0  # wall time of its batch divided by the batch's completions
    error: str = ""
    retryable: bool = False  # no answer came, for a reason that may pass: it was not paid for and may be asked again
    trajectory: Sequence[Row] = ()  # turns with tools on the way to it, rows.TRAJECTORY


class Request(NamedTuple):
    """One completion that is asked for."""

    chat: Chat
    seed: int
    temperature: float
    json_schema: JsonSchema | None = None
    keep_special_tokens: bool = False  # for a model that reasons before it answers: the tags may be special tokens
    max_calls: int = 0  # calls of tools that may come before the answer; see `engine.tools.agent`


class Engine(Protocol):
    """A loaded model. One per process."""

    identity: str
    """Content address of weights, dtype, engine version and template: what an answer depends on besides its request."""

    tokens_read: int
    """Tokens that `choose` has read so far: what a judge is paid for."""

    def reset_prefix_cache(self) -> None:
        """Drop what is cached from earlier requests, so that the next batch is computed alike in every run, also after a crash."""
        ...

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer each request, in order. A request that cannot be answered ends as `too_long` or `error`, alone."""
        ...

    def choice_probs(self, chats: Sequence[Chat], choices: Sequence[str]) -> list[list[float] | None]:
        """Return for each chat the probabilities, summing to 1, that the next token is each of `choices`; None if unanswerable."""
        ...

    def mean_nll(self, chats: Sequence[Chat], answers: Sequence[str]) -> list[float | None]:
        """Return the mean loss of each answer's tokens, in nats, behind its chat, or alone behind an empty one; None if too long.

        Raises:
            ModelError: this kind of model gives no log probabilities of what it reads.
        """
        ...


ENGINES = {
    "vllm": "engine.inference.vllm_engine:VllmEngine",
    "endpoint": "engine.inference.endpoint:EndpointEngine",
    "fake": "engine.inference.fake:FakeEngine",
}


def build_model(model: Model, pool: Pool, *, folder: Path | None) -> Engine:
    """Load `model`, whose weights are in `folder`, with the engine arguments that `pool` asks for.

    Raises:
        ModelError: the folder is missing or the engine does not start.
    """
    module, _, name = ENGINES[model.type].partition(":")
    return getattr(importlib.import_module(module), name)(model, pool, folder)


def instruct(messages: Sequence[dict[str, str]], *, system: str = "", shots: Sequence[tuple[str, str]] = ()) -> Chat:
    """Return `messages` behind a system text and worked examples (input, output) given as earlier turns."""
    head: Chat = [{"role": "system", "content": system}] if system else []
    turns = [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in shots]
    return [*head, *(turn for pair in turns for turn in pair), *({"role": m["role"], "content": m["content"]} for m in messages)]
