"""Any server that speaks OpenAI's chat completions: another vLLM, a gateway, a provider.

`engine.inference.sending` sends a request again until it is answered or refused for good. A refusal is a result only if the server
says that the request's own text caused it (too long, filtered); any other refusal is recorded by nobody, and stops the run if a
short probe gets it, too. The key comes from the environment and is written nowhere.
"""

import asyncio
import logging
import os
from collections.abc import Sequence
from functools import cache, partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import openai

from engine.contract.models import EndpointModel, Sampling
from engine.contract.profile import Pool
from engine.errors import ModelError
from engine.inference.aimd import AimdLimiter
from engine.inference.chat_reply import Answer, choice_shares, completion, parse_reply, token_logprobs
from engine.inference.engine import Chat, Completion, Lost, Request
from engine.inference.identity import identity
from engine.inference.refusal import Body, Refusal, advice, rejected_options
from engine.inference.reply_usage import billed
from engine.inference.scoring import Distribution, Target, Unscored
from engine.inference.sending import PREFLIGHT_SECONDS, PROBE, Kind, Sender
from engine.inference.turn_marks import USUAL_MARKS

if TYPE_CHECKING:
    from engine.inference.endpoint_scoring import ScoringEndpoint

log = logging.getLogger(__name__)

MAX_ALTERNATIVES = 20  # alternatives of a token that the interface gives at most
MAX_LOST = 3  # unanswered requests in a row, each a batch of its own, after which it is asked whether the server is away
CHAT = Kind("/chat/completions", parse_reply)


class EndpointEngine:
    """Asks a server; `pool.max_num_seqs` bounds the requests in flight.

    The first request with a new set of parameters is sent alone. If it is not answered, or later no request of a batch is, a short
    probe with the same parameters tells whether the texts or the server are the cause.
    """

    def __init__(self, model: EndpointModel, pool: Pool, folder: Path | None) -> None:
        self.model = model
        self.identity = identity(model, folder)
        self.limiter = AimdLimiter(pool.max_num_seqs)
        self.sender = Sender(model, _key(model), self.limiter)
        self.folder = folder  # of the tokenizer of the server's model, where texts are scored
        self.accepted: set[frozenset[str]] = set()  # sets of parameters with which the server has answered
        self.lost = 0  # requests without an answer since the last answer
        self.gives_logprobs = False
        self.tokens_read = 0
        self.scoring: ScoringEndpoint | None = None

    def reset_prefix_cache(self) -> None:
        """Do nothing: caches are the server's own."""

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer each request, in order; see `engine.inference.engine.Engine`.

        Raises:
            ModelError: the server answers no request: it is away, refuses the key, the model's name or a parameter.
        """
        outcomes = self._send_all([self._body(request, sampling) for request in requests])
        return [self._completion(outcome, request, sampling) for request, outcome in zip(requests, outcomes, strict=True)]

    def connect(self) -> openai.AsyncOpenAI:
        """Return a client of the server, which the caller closes."""
        return self.sender.connect()

    async def ask(self, client: openai.AsyncOpenAI, request: Request, sampling: Sampling) -> Completion:
        """Answer one request in the caller's event loop, to which `limiter` is bound. Without an answer it ends as `error`."""
        return self._completion(await self._send(client, self._body(request, sampling)), request, sampling)

    def choice_probs(self, chats: Sequence[Chat], choices: Sequence[str]) -> list[list[float] | Lost | None]:
        """Return the probabilities of `choices` among the most likely first tokens; see `engine.inference.engine.Engine`.

        Raises:
            ModelError: as `complete`, or because the server gives no log probabilities.
        """
        options: Body = {"max_tokens": 1, "temperature": 0.0, "logprobs": True, "top_logprobs": MAX_ALTERNATIVES}
        outcomes = self._send_all([self._wire(chat, options) for chat in chats])
        answers = {index: outcome for index, outcome in enumerate(outcomes) if isinstance(outcome, Answer)}
        self.gives_logprobs |= any(token_logprobs(answer.choice) for answer in answers.values())
        if answers and not self.gives_logprobs:
            raise ModelError(f"{self}: it answers without log probabilities, which a judge needs. Use another model or server.")
        usages = [billed(answer.usage, prompt=_text(chats[index]), answer="") for index, answer in answers.items()]
        self.tokens_read += sum(usage.tokens_in for usage in usages)
        return [
            choice_shares(outcome.choice, choices) if isinstance(outcome, Answer) else Lost() if outcome.retryable else None
            for outcome in outcomes
        ]

    def mean_nll(self, chats: Sequence[Chat], answers: Sequence[str]) -> list[float | None]:
        """Raise ModelError: chat completions give no log probabilities of the prompt."""
        raise ModelError(f"{self.model.url}: gives no log probabilities of a prompt; use a model of type vllm.")

    def distributions(self, targets: Sequence[Target], k: int) -> list[Distribution | Unscored | Lost]:
        """Return what the server's completions say of the targets; see `engine.inference.engine.Engine`.

        Raises:
            ModelError: the server returns no log-probabilities of prompts, or answers no request.
        """
        from transformers import AutoTokenizer

        from engine.inference.endpoint_scoring import ScoringEndpoint

        if self.scoring is None:
            if self.folder is None:
                raise ModelError(
                    f"{self}: texts are scored with the tokenizer of its model; name its folder in capture.tokenizers."
                )
            tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
            self.scoring = ScoringEndpoint(self.sender, tokenizer)
        found = asyncio.run(self.scoring.distributions(targets, k))
        self.tokens_read += sum(each.tokens_in for each in found if isinstance(each, Distribution))
        return found

    def __str__(self) -> str:
        return f"{self.model.url}, model {self.model.path!r}"

    def _completion(self, outcome: Answer | Refusal, request: Request, sampling: Sampling) -> Completion:
        if isinstance(outcome, Refusal):
            return outcome.completion()
        return completion(outcome, _text(request.chat), sampling.max_tokens)

    def _body(self, request: Request, sampling: Sampling) -> Body:
        options: dict[str, object] = {
            "max_tokens": sampling.max_tokens,
            "temperature": request.temperature,
            "top_p": sampling.top_p if request.temperature else 1.0,
            "seed": request.seed % 2**31,
        }
        if self.model.logprobs:
            options["logprobs"] = True
        if request.json_schema is not None:
            schema = {"name": "answer", "schema": request.json_schema, "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        return self._wire(request.chat, options)

    def _wire(self, chat: Chat, options: Body) -> Body:
        """Return the body of a request as the server wants it: without what it does not take, by its own names."""
        omit = self.model.omit or ()
        rename = {str(name): wire for name, wire in (self.model.rename or {}).items()}
        taken = {rename.get(name, name): value for name, value in options.items() if name not in omit}
        if any(USUAL_MARKS.search(turn["content"]) for turn in chat):
            _warn_of_marks(self.model.url)
        return {"model": self.model.path, "messages": chat, **taken}

    def _send_all(self, bodies: Sequence[Body]) -> list[Answer | Refusal]:
        return asyncio.run(self._gather(bodies))

    async def _gather(self, bodies: Sequence[Body]) -> list[Answer | Refusal]:
        self.limiter.bind()
        async with self.connect() as client:
            first = await self._preflight(client, bodies)
            rest = [index for index in range(len(bodies)) if index not in first]
            outcomes = await asyncio.gather(*(self._send(client, bodies[index]) for index in rest))
            by_index = {**first, **dict(zip(rest, outcomes, strict=True))}
            await self._stop_if_away(client, [(body, by_index[index]) for index, body in enumerate(bodies)], probed=bool(first))
        return [by_index[index] for index in range(len(bodies))]

    async def _preflight(self, client: openai.AsyncOpenAI, bodies: Sequence[Body]) -> dict[int, Answer | Refusal]:
        """Send the first request of each new set of parameters alone; return its outcome by its index.

        Raises:
            ModelError: it was not answered, and neither was a short probe with the same parameters.
        """
        outcomes: dict[int, Answer | Refusal] = {}
        for index, body in enumerate(bodies):
            parameters = frozenset(body)
            if parameters in self.accepted:
                continue
            outcomes[index] = outcome = await self._send(client, body, PREFLIGHT_SECONDS)
            if isinstance(outcome, Refusal):
                await self._probe(client, body, outcome, "the server refuses every request")
            self.accepted.add(parameters)
        return outcomes

    async def _stop_if_away(
        self, client: openai.AsyncOpenAI, sent: Sequence[tuple[Body, Answer | Refusal]], *, probed: bool
    ) -> None:
        """Ask whether the server is away if it answered none of a batch, or none of MAX_LOST single requests in a row.

        `probed`: the server has just answered a first request, or the probe in its place.

        Raises:
            ModelError: a short probe with the parameters of the last request is not answered either.
        """
        lost = [(body, outcome) for body, outcome in sent if isinstance(outcome, Refusal) and outcome.retryable]
        if probed or len(lost) < len(sent):
            self.lost = 0
            return
        self.lost += len(lost)
        if len(lost) > 1 or self.lost >= MAX_LOST:  # one row alone has bad luck
            await self._probe(client, *lost[-1], f"the server answered none of {len(lost)} requests")
            self.lost = 0

    async def _probe(self, client: openai.AsyncOpenAI, body: Body, outcome: Refusal, what: str) -> None:
        """Raise ModelError unless the server answers a short request with the parameters of `body`, whose `outcome` this was."""
        patience = 0.0 if outcome.may_pass else PREFLIGHT_SECONDS  # what may pass was waited for
        send, probe = partial(self._send, client, patience=patience), {**body, "messages": PROBE}
        refusal = await send(probe)
        if isinstance(refusal, Refusal):
            rejected = await rejected_options(probe, refusal, send) if refusal.status in (400, 415, 422, 501) else []
            raise ModelError(
                f"{self}: {what}. It says: {refusal}\n{advice(self.model, refusal, rejected)}. "
                "Nothing of this was recorded, and what was answered before is kept: fix it and run again."
            )

    async def _send(self, client: openai.AsyncOpenAI, body: Body, patience: float = inf) -> Answer | Refusal:
        return await self.sender(client, CHAT, body, patience)


@cache
def _warn_of_marks(url: str) -> None:
    log.warning("Messages to %s hold what may be turn marks of its template; only the server can treat them as text.", url)


def _text(chat: Chat) -> str:
    return "".join(turn["content"] for turn in chat)


def _key(model: EndpointModel) -> str:
    if model.key_env is None:
        return "none"
    key = os.environ.get(model.key_env, "")
    if not key:
        raise ModelError(f"{model.url}: the environment variable {model.key_env} holds no key. Set it where the actors run.")
    return key
