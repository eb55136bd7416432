"""A chat's answer as server-sent events, at once or as it grows."""

import json
from collections.abc import Iterator

from engine.rows import Row
from engine.serving.api_error import ApiError
from engine.serving.chat import ChatRequest, about, finish_reason, message, usage
from engine.serving.service import Reply

MEDIA_TYPE = "text/event-stream"


class ChatEvents:
    """The events of one answer: `begin`, any number of `grow`, and `end` or `fail`."""

    def __init__(self, request_id: str, deployment: str, request: ChatRequest, created: int) -> None:
        self.head: Row = {"id": f"chatcmpl-{request_id}", "object": "chat.completion.chunk", "created": created}
        self.head |= {"model": request.model, "system_fingerprint": deployment[:16]}
        self.head |= {"usage": None} if request.stream_usage else {}
        self.has_usage, self.sent = request.stream_usage, 0  # characters

    def begin(self) -> str:
        """Return the event that opens the answer."""
        return self._delta({"role": "assistant", "content": ""})

    def grow(self, text: str) -> str:
        """Return the event of what is new in `text`, the beginning of the answer; "" if nothing is."""
        new, self.sent = text[self.sent :], max(self.sent, len(text))
        return self._delta({"content": new}) if new else ""

    def end(self, reply: Reply) -> Iterator[str]:
        """Yield the events of the rest of the answer and of its end."""
        text, refusal = message(reply)
        if refusal:
            yield self._delta({"refusal": refusal})
        elif rest := self.grow(text or ""):
            yield rest
        yield self._delta({}, finish_reason(reply), {"rayleigh": about(reply)})
        if self.has_usage:
            yield _event({**self.head, "choices": [], "usage": usage(reply)})
        yield "data: [DONE]\n\n"

    def fail(self, error: ApiError) -> str:
        """Return the event of an error: the answer that has begun is not the answer."""
        return _event(error.body)

    def whole(self, reply: Reply) -> Iterator[str]:
        """Yield all events of an answer that is complete."""
        yield self.begin()
        yield from self.end(reply)

    def _delta(self, delta: Row, finish_reason: str | None = None, more: Row | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event({**self.head, "choices": [choice], **(more or {})})


def _event(content: Row) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False, separators=(',', ':'))}\n\n"
