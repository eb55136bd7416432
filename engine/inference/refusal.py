"""Why a server gave no answer to a request, in its own words, and what to change in the contract when it answers no request."""

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import openai

from engine.contract.models import EndpointModel
from engine.inference.chat_reply import Answer, InvalidReply
from engine.inference.engine import Completion

MAX_WORDS = 300  # characters of the server's own words that are kept
MAY_PASS = (0, 408, 409, 425, 429)  # and 5xx: the same request may be answered later. 0: no connection, or no valid reply
TOO_LONG = re.compile(
    r"context.?length|context.?window|maximum model length|max_model_len|(prompt|input|request) is too (long|large)",
    re.I,
)
FILTERED = re.compile(r"content.?(filter|policy|management)|moderation|flagged|data_inspection", re.I)

Body = Mapping[str, object]
"""The JSON of a request, by the server's names of its keys."""


class Refusal(NamedTuple):
    """One request without an answer."""

    status: int
    """HTTP status; 0 without a connection or a valid reply."""
    words: str
    """The server's own words, or the client's error."""
    code: str = ""
    param: str = ""
    """The request's key that the server names as the cause."""
    retry_after: float | None = None
    """Seconds that the server asks to wait."""
    timed_out: bool = False
    """`deadline_seconds` are over."""

    @property
    def may_pass(self) -> bool:
        """Return whether the same request may be answered later."""
        return not self.timed_out and (self.status in MAY_PASS or self.status >= 500)

    @property
    def finish_reason(self) -> str:
        """Return `too_long` or `refused` if the server says that the request's own text is the cause, else `error`."""
        words = f"{self.code} {self.words}"
        if self.status not in (400, 403, 413, 422):
            return "error"
        return "too_long" if TOO_LONG.search(words) else "refused" if FILTERED.search(words) else "error"

    @property
    def retryable(self) -> bool:
        """Return whether this is no result of the request: it was not paid for, must not be recorded and may be asked again."""
        return self.finish_reason == "error"

    def completion(self) -> Completion:
        """Return the completion of the row. Only what the row's own text caused is a result."""
        return Completion("", self.finish_reason, 0, 0, error=str(self), retryable=self.retryable)

    def __str__(self) -> str:
        return f"{self.status} {self.words}" if self.status else self.words


def refusal_of(error: openai.APIError | InvalidReply, secret: str) -> Refusal:
    """Return what `error` says, with `secret` masked."""

    def plain(text: object) -> str:
        words = str(text if text is not None else "")
        return (words.replace(secret, "***") if secret else words)[:MAX_WORDS]

    if isinstance(error, InvalidReply):
        detail = error.error
        code = plain(detail.code if detail else "")
        status = int(code) if re.fullmatch("[45][0-9]{2}", code) else 0
        return Refusal(status, plain(f"InvalidReply: {error}"), code, plain(detail.param if detail else ""))
    if not isinstance(error, openai.APIStatusError):
        return Refusal(0, plain(f"{type(error).__name__}: {error}"))
    message = error.body.get("message") if isinstance(error.body, dict) else None
    words = " ".join(str(message or error.response.text).split())
    return Refusal(
        error.status_code, plain(f"{type(error).__name__}: {words}"), plain(error.code), plain(error.param), _pause(error)
    )


def _pause(error: openai.APIStatusError) -> float | None:
    """Return seconds of the header Retry-After, which holds a number or a date: one by the server's own clock, if it tells it."""
    headers = error.response.headers
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    until = _date(text)
    return max(0.0, (until - (_date(headers.get("date", "")) or datetime.now(UTC))).total_seconds()) if until else None


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


async def rejected_options(body: Body, refusal: Refusal, send: Callable[[Body], Awaitable[Answer | Refusal]]) -> list[str]:
    """Return the keys of `body` that the server does not take, by sending each of them alone; at most one request a key.

    The list is empty if the server refuses a request without options, too. If it takes each key alone, but not all together, the
    list holds the key that the refusal names, or all.
    """
    required = {key: body[key] for key in ("model", "messages")}
    options = [key for key in body if key not in required]
    if isinstance(await send(required), Refusal):
        return []
    rejected = []
    for option in options:
        alone = {**required, option: body[option]} | ({"logprobs": True} if option == "top_logprobs" else {})
        if isinstance(await send(alone), Refusal):
            rejected.append(option)
    named = refusal.param.partition(".")[0]
    return rejected or [option for option in options if option == named] or options


def advice(model: EndpointModel, refusal: Refusal, rejected: list[str]) -> str:
    """Return what to change in the contract or at the server; `rejected` are the keys that the server does not take."""
    section = f"the contract's `model` section with `path: {model.path}` (such as teachers.models.N.model)"
    if rejected:
        keys = ", ".join(rejected)
        return f"It does not take {keys}. In {section}: " + "; ".join(_option_advice(model, key) for key in rejected)
    if refusal.status in (401, 403):
        key = f"the environment variable {model.key_env} holds its key" if model.key_env else "`key_env` is not set"
        return f"Check the key and what it may use: in {section} {key}"
    if refusal.status == 402:
        return "Check the account's credit"
    if refusal.status == 429:
        return "Wait, or raise the account's limits: code insufficient_quota means that its credit is spent"
    if refusal.status == 0 or refusal.status >= 500:
        return f"Check that the server at `url` is up and speaks chat completions: {section}"
    return f"Check `url` (up to and with the version, such as /v1) and `path` in {section}"


def _option_advice(model: EndpointModel, key: str) -> str:
    ours = {wire: name for name, wire in (model.rename or {}).items()}.get(key, key)
    if ours == "max_tokens":
        other = "max_tokens" if key == "max_completion_tokens" else "max_completion_tokens"
        return f"`rename: {{max_tokens: {other}}}`, or a smaller sampling.max_tokens"
    if ours in ("logprobs", "top_logprobs"):
        return "`logprobs: false` for a teacher; a judge needs a server that gives log probabilities"
    if ours == "response_format":
        return "`omit: [response_format]`, or `structured: false` beside it: answers are then checked, but not held to their schema"
    return f"`omit: [{ours}]`"
