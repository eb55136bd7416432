"""Reply bodies of OpenAI-compatible servers, validated; the variants that servers are known to send are accepted."""

import logging
from collections.abc import Sequence
from functools import cache
from math import exp
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from engine.inference.engine import Completion

log = logging.getLogger(__name__)

FINISH_REASONS = {"stop": "stop", "length": "length", "max_tokens": "length", "content_filter": "refused"}
FAILED = {"error", "abort", "cancelled", "tool_calls", "function_call"}  # finish reasons of a text that is no answer
T = TypeVar("T", bound=BaseModel)


class Reply(BaseModel):
    """A part of a reply. Unknown keys are ignored: servers add their own."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Part(Reply):
    """One part of a message that is a list of parts."""

    type: str = "text"
    text: str = ""


class Message(Reply):
    """The assistant's message."""

    content: str | list[Part] | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        """Return the text; parts that are no text (such as thinking) are left out."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content if part.type == "text")
        return self.content or ""


class Choice(Reply):
    """One sampled answer."""

    message: Message
    finish_reason: str | None = None
    logprobs: object = None
    """Parsed on demand by `token_logprobs`: an answer is valid without them."""


class Usage(Reply):
    """Tokens that were billed."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Alternative(Reply):
    """A token with its log probability in nats."""

    model_config = ConfigDict(strict=True)

    token: str
    logprob: FiniteFloat


class TokenLogprob(Alternative):
    """A sampled token and the most likely tokens at its position."""

    top_logprobs: list[Alternative] | None = None


class TokenLogprobs(Reply):
    """The log probabilities of all tokens of an answer."""

    content: list[TokenLogprob]


class ErrorDetail(Reply):
    """An error as OpenAI writes it."""

    message: object = ""
    code: object = None
    param: object = None


class Body(Reply):
    """A whole reply: choices, or an error that a gateway sends with status 200."""

    choices: list[Choice] = []
    usage: object = None
    error: ErrorDetail | str | None = None


class Answer(NamedTuple):
    """An answer of the server to one request."""

    choice: Choice
    usage: Usage
    seconds: float
    """Wall time of the request that was answered, without waiting and earlier attempts."""


class InvalidReply(Exception):
    """The reply has status 200, but holds an error or no chat completion."""

    def __init__(self, message: str, error: ErrorDetail | None = None) -> None:
        super().__init__(message)
        self.error = error


def parse_reply(content: bytes, seconds: float) -> Answer:
    """Return the answer in a reply body.

    Raises:
        InvalidReply: the body holds an error, is no chat completion, or has not exactly one choice.
    """
    try:
        body = Body.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidReply(f"no chat completion: {where}: {first['msg']}: {content[:80]!r}") from None
    if body.error and not body.choices:
        detail = body.error if isinstance(body.error, ErrorDetail) else ErrorDetail(message=body.error)
        raise InvalidReply(str(detail.message), detail)
    if len(body.choices) != 1:
        raise InvalidReply(f"no chat completion: {len(body.choices)} choices, expected 1: {content[:80]!r}")
    return Answer(body.choices[0], _lenient(Usage, body.usage) or Usage(), seconds)


def completion(answer: Answer) -> Completion:
    """Return an answer as a completion. A text with an unknown finish reason, or none, counts as `stop`."""
    choice = answer.choice
    text = choice.message.text
    finish_reason = FINISH_REASONS.get(choice.finish_reason or "")
    if choice.message.refusal and not text:
        text, finish_reason = choice.message.refusal, "refused"
    if finish_reason is None:
        known = bool(text) and choice.finish_reason not in FAILED
        finish_reason = "stop" if known else "error"
        if known:
            _warn_once(choice.finish_reason)
    tokens = token_logprobs(choice)
    return Completion(
        text=text,
        finish_reason=finish_reason,
        tokens_in=answer.usage.prompt_tokens,
        tokens_out=answer.usage.completion_tokens,
        logprob=sum(token.logprob for token in tokens) if tokens else None,
        seconds=answer.seconds,
        error=f"ended as {choice.finish_reason}" if finish_reason == "error" else "",
    )


def choice_shares(choice: Choice, choices: Sequence[str]) -> list[float] | None:
    """Return the probabilities of `choices`, summing to 1, among the alternatives of the first token; None if none is there."""
    tokens = token_logprobs(choice)
    if not tokens:
        return None
    weights = dict.fromkeys(choices, 0.0)
    for alternative in tokens[0].top_logprobs or []:
        if (token := alternative.token.strip()) in weights:
            weights[token] += exp(min(0.0, alternative.logprob))
    total = sum(weights.values())
    return [weights[token] / total for token in choices] if total else None


def token_logprobs(choice: Choice) -> Sequence[TokenLogprob]:
    """Return the answer's tokens with their log probabilities; none if they are missing or invalid."""
    parsed = _lenient(TokenLogprobs, choice.logprobs)
    return parsed.content if parsed else ()


def _lenient(kind: type[T], value: object) -> T | None:
    try:
        return kind.model_validate(value)
    except ValidationError:
        return None


@cache
def _warn_once(finish_reason: str | None) -> None:
    log.warning(
        "The server ends answers with finish_reason %r, which OpenAI's API does not have; it counts as 'stop'.", finish_reason
    )
