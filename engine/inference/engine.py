"""The interface that every model has, and the table of engines."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from engine.contract.base import JsonSchema
from engine.contract.models import Model, Sampling
from engine.contract.profile import Pool
from engine.inference.scoring import Distribution, Target, Unscored
from engine.rows import Row

Chat = list[dict[str, str]]
"""Turns of a conversation, each with `role` (system, user, assistant) and `content`."""


class Completion(NamedTuple):
    """One sampled answer and how it ended."""

    text: str
    finish_reason: str  # one of rows.FINISH_REASONS
    tokens_in: int
    tokens_out: int
    logprob: float | None = None  # sum over the answer's tokens, nats
    seconds: float = 0.0  # wall time of its batch divided by the batch's completions
    error: str = ""
    retryable: bool = False  # no result: it was not paid for, must not be recorded and may be asked again
    trajectory: Sequence[Row] = ()  # turns with tools before the answer, rows.TRAJECTORY
    reasoning: str = ""  # that the engine gives apart from the text
    token_ids: Sequence[int] = ()  # of the answer, the end of its turn included; empty for an engine that does not say
    token_logprobs: Sequence[Row] | None = None  # rows.TOKEN_LOGPROBS of the text's tokens; None where the engine gives none


class Lost:
    """A request that got no result, in place of one: it was not paid for, must not be recorded and may be asked again."""


class Request(NamedTuple):
    """One completion to sample."""

    chat: Chat
    seed: int
    temperature: float
    json_schema: JsonSchema | None = None
    keep_special_tokens: bool = False  # for a model that reasons before it answers: the tags may be special tokens
    max_calls: int = 0  # tool calls allowed before the answer; see `engine.tools.agent`


class Engine(Protocol):
    """A loaded model. One per process."""

    identity: str
    """Hash of all that an answer depends on besides its request; see `engine.inference.identity`."""

    @property
    def tokens_read(self) -> int:
        """Prompt tokens that all methods but `complete` have read so far."""
        ...

    def reset_prefix_cache(self) -> None:
        """Empty the prefix cache, so that the next batch is computed the same way in every run, also after a crash."""
        ...

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer each request, in order. A request that cannot be answered ends alone, as `too_long`, `refused` or `error`.

        Raises:
            ModelError: no request can be answered: the server is away or refuses all, or the chat template refuses every chat.
        """
        ...

    def choice_probs(self, chats: Sequence[Chat], choices: Sequence[str]) -> Sequence[list[float] | Lost | None]:
        """Return for each chat the probability of each of `choices` as next token, summing to 1; None if the answer has none."""
        ...

    def mean_nll(self, chats: Sequence[Chat], answers: Sequence[str]) -> list[float | None]:
        """Return each answer's mean negative log likelihood per token, in nats, after its chat (may be empty); None if too long.

        Raises:
            ModelError: the engine gives no log probabilities of a prompt.
        """
        ...

    def distributions(self, targets: Sequence[Target], k: int) -> Sequence[Distribution | Unscored | Lost]:
        """Return for each target its distribution over the k most probable tokens at each of its tokens and at the turn's end.

        With a `json_schema` that allows the target, forbidden tokens have no mass. Prompt tokens count in `tokens_read`.

        Raises:
            ModelError: the engine gives no log-probabilities of a text that it did not write.
        """
        ...


ENGINES = {
    "vllm": "engine.inference.vllm_engine:VllmEngine",
    "llama_cpp": "engine.inference.llama_cpp_engine:LlamaCppEngine",
    "endpoint": "engine.inference.endpoint:EndpointEngine",
    "fake": "engine.inference.fake:FakeEngine",
}


LIBRARIES = {"vllm": ("vllm.entrypoints.llm", "vllm.v1.engine.llm_engine", "engine.inference.vllm_engine")}
"""Type of a model -> modules that take seconds to import, and that its engine needs."""


def build_model(model: Model, pool: Pool, *, folder: Path | None) -> Engine:
    """Return the loaded engine of `model`, whose weights are in `folder`, with the resources of `pool`.

    Raises:
        ModelError: the folder is missing or the engine does not start.
    """
    module, _, name = ENGINES[model.type].partition(":")
    return getattr(importlib.import_module(module), name)(model, pool, folder)


def instruct(messages: Sequence[dict[str, str]], *, system: str = "", shots: Sequence[tuple[str, str]] = ()) -> Chat:
    """Return `messages` after a system turn and the worked examples `shots` (input, output), which become earlier turns.

    System turns of `messages` join the one at the head, `system` first: chat templates refuse a second one, or one behind a user.
    """
    head: Chat = [{"role": "system", "content": system}] if system else []
    pairs = [[{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}] for prompt, answer in shots]
    chat = [*head, *(turn for pair in pairs for turn in pair), *({"role": m["role"], "content": m["content"]} for m in messages)]
    systems = sum(turn["role"] == "system" for turn in chat)
    return merge_system(chat) if systems > 1 or (systems and shots and not system) else chat


def merge_system(chat: Chat) -> Chat:
    """Return `chat` with all system turns merged into one at its head."""
    system = "\n\n".join(turn["content"] for turn in chat if turn["role"] == "system")
    return [{"role": "system", "content": system}, *(turn for turn in chat if turn["role"] != "system")]
