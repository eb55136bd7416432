"""Reply bodies of OpenAI-compatible servers, validated; the variants that servers are known to send are accepted.

| `finish_reason` | sent by | counts as |
|---|---|---|
| `stop`, `end_turn`, `eos`, `eos_token`, `stop_sequence`, `complete` | OpenAI, gateways, TGI, Cohere | `stop` |
| `length`, `max_tokens`, `max_output_tokens`, `model_length`, ... | OpenAI, Gemini, Mistral, gateways | `length` |
| `content_filter`, `refusal`, `safety`, `recitation`, `sensitive`, ... | OpenAI, Gemini, Zhipu, gateways | `refused` |
| `tool_calls`, `tool_use`, `function_call`, `abort`, `error`, ... | OpenAI, vLLM, gateways | `error` |
| `insufficient_system_resource`, `network_error`, or an `error` in the choice | DeepSeek, Zhipu, OpenRouter | asked again |
| null, "", missing or any other, with a text | some gateways | `stop`; `length` if the answer fills `max_tokens` |
| the same without a text | | `error` |

COUNTS_AS has them all. Upper and lower case are the same; of `content_filter: SAFETY` the part before the colon counts. A `refusal`
makes any reply `refused`. A text that is all reasoning and stopped is an `error`, as an unclosed pair of reasoning tags is.
"""

import logging
from collections.abc import Sequence
from functools import cache
from math import exp
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from engine.inference.engine import Completion
from engine.inference.reply_text import REASONING_FIELDS, MessageText, message_text, unread_parts
from engine.inference.reply_usage import IN, OUT, billed, reported_out
from engine.inference.token_logprobs import of_pieces

log = logging.getLogger(__name__)

COUNTS_AS = {
    "stop": ("stop", "end_turn", "eos", "eos_token", "stop_sequence", "complete"),
    "length": ("length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"),
    "refused": (
        "content_filter", "content_filtered", "refusal", "safety", "recitation", "blocklist", "prohibited_content", "spii",
        "sensitive", "guardrail_intervened",
    ),
    "error": (
        "tool_calls", "tool_use", "function_call", "malformed_function_call", "abort", "error", "cancelled", "pause_turn",
    ),
}  # fmt: skip
FINISH_REASONS = {name: ours for ours, names in COUNTS_AS.items() for name in names}
INTERRUPTED = ("insufficient_system_resource", "network_error")
OPENAI_REASONS = ("stop", "length", "content_filter", "tool_calls", "function_call")
STANDARD = {
    "reply": ("id", "object", "created", "model", "service_tier", "system_fingerprint"),
    "choice": ("index",),
    "usage": (*IN, *OUT, "total_tokens", "prompt_tokens_details", "completion_tokens_details"),
    "message": ("role", "annotations", "audio", "function_call", "tool_calls", "content", "refusal", *REASONING_FIELDS),
}
"""Keys that are no surprise: those of OpenAI's API, and those of a message that are read."""
ONLY_REASONING = (
    "stopped while it was thinking: the reply holds reasoning and no answer. If the server takes answers for reasoning, turn off "
    "its reasoning parser"
)
T = TypeVar("T", bound=BaseModel)


class Reply(BaseModel):
    """A part of a reply. Unknown keys are kept to be named in the log: servers add their own."""

    model_config = ConfigDict(frozen=True, extra="allow")


class ErrorDetail(Reply):
    """An error as OpenAI writes it."""

    message: object = ""
    code: object = None
    param: object = None


class Choice(Reply):
    """One sampled answer."""

    message: dict[str, object] | None = None
    """The assistant's message; `engine.inference.reply_text` reads it."""
    finish_reason: object = None
    logprobs: object = None
    """Parsed on demand by `token_logprobs`: an answer is valid without them."""
    error: ErrorDetail | str | None = None

    @property
    def ending(self) -> str:
        """Return the finish reason in lower case, without details; "" for none."""
        return str(self.finish_reason or "").partition(":")[0].strip().lower()


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


class Body(Reply):
    """A whole reply: choices, or an error that a gateway sends with status 200."""

    choices: list[Choice] | None = None
    usage: object = None
    error: ErrorDetail | str | None = None


class Answer(NamedTuple):
    """An answer of the server to one request."""

    choice: Choice
    text: MessageText
    usage: object
    """As the server reports it; `engine.inference.reply_usage` says how far it is believed."""
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
    choices = body.choices or []
    for fault in [body.error if not choices else None, *(choice.error for choice in choices)]:
        if fault:
            detail = fault if isinstance(fault, ErrorDetail) else ErrorDetail(message=fault)
            raise InvalidReply(str(detail.message), detail)
    if len(choices) != 1:
        raise InvalidReply(f"no chat completion: {len(choices)} choices, expected 1: {content[:80]!r}")
    [choice] = choices
    if choice.ending in INTERRUPTED or (choice.message is None and FINISH_REASONS.get(choice.ending) != "refused"):
        raise InvalidReply(f"no answer: finish_reason {choice.finish_reason!r}: {content[:80]!r}")
    try:
        text = message_text(choice.message or {})
    except ValueError as error:
        raise InvalidReply(f"no chat completion: choices.0.message: {error}") from None
    _name_unread(body, choice)
    return Answer(choice, text, body.usage, seconds)


def completion(answer: Answer, prompt: str, max_tokens: int) -> Completion:
    """Return the answer to a request with the text `prompt` as a completion; the module's table says what counts as what."""
    text = answer.text
    finish_reason, error = _ending(answer, max_tokens)
    limit = max_tokens if finish_reason == "length" else 0
    usage = billed(answer.usage, prompt=prompt, answer=text.reasoning + (text.refusal or text.answer), limit=limit)
    tokens = token_logprobs(answer.choice)
    return Completion(
        text=text.refusal or text.answer,
        finish_reason=finish_reason,
        tokens_in=usage.tokens_in,
        tokens_out=usage.tokens_out,
        logprob=sum(token.logprob for token in tokens) if tokens else None,
        seconds=answer.seconds,
        error=error,
        reasoning=text.reasoning,
        token_logprobs=of_pieces(text.answer, [(token.token, token.logprob) for token in tokens]) if tokens else None,
    )


def _ending(answer: Answer, max_tokens: int) -> tuple[str, str]:
    """Return the finish reason of an answer, and the error if it is one."""
    choice, text = answer.choice, answer.text
    if text.refusal:
        return "refused", ""
    known = FINISH_REASONS.get(choice.ending)
    if known is None and text.answer:
        known = "length" if reported_out(answer.usage) >= max_tokens else "stop"
    if known and known != "error" and choice.ending not in OPENAI_REASONS:
        _warn_once(choice.ending, known)
    if known == "stop" and not text.answer.strip() and text.reasoning:
        return "error", ONLY_REASONING
    if known == "stop" and not text.answer and choice.message and choice.message.get("tool_calls"):
        return "error", "the message holds tool calls and no text"
    return (known, "") if known and known != "error" else ("error", f"ended as {choice.finish_reason}")


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
def _warn_once(finish_reason: str, ours: str) -> None:
    log.warning(
        "The server ends answers with finish_reason %r, which OpenAI's API does not have; it counts as %r.",
        finish_reason or None,
        ours,
    )


def _name_unread(body: Body, choice: Choice) -> None:
    """Name in the log, once a process, each field of a reply with a value that is not read and not OpenAI's own."""
    message, usage = choice.message or {}, body.usage if isinstance(body.usage, dict) else {}
    objects = {"reply": body.model_extra or {}, "choice": choice.model_extra or {}, "message": message, "usage": usage}
    for name, fields in objects.items():
        for key, value in fields.items():
            if value and key not in STANDARD[name]:
                _name_once(f"{name}.{key}")
    for kind in unread_parts(message):
        _name_once(f"parts of type {kind!r} in message.content")


@cache
def _name_once(name: str) -> None:
    log.warning("The server's replies hold %s, which is not read.", name)
