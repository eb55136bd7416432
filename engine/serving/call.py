"""One request to a model: read, answered when the answer is complete or as it grows, and kept as a row."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from engine.inference.engine import Chat
from engine.rows import Row
from engine.serving.api_error import ApiError
from engine.serving.chat import ChatRequest, Models
from engine.serving.chat_events import MEDIA_TYPE, ChatEvents
from engine.serving.recorder import prompt_hash
from engine.serving.router import Asked
from engine.serving.schemas import REQUEST
from engine.serving.service import Reply

if TYPE_CHECKING:
    from engine.serving.app import App

log = logging.getLogger(__name__)

GONE = 499  # status of a caller that has gone, as nginx counts it
INTERNAL = ApiError(500, "internal_error", "The server failed on this request; its log says why.")
NOT_STORED = {"cache-control": "no-store"}


class Wanted(NamedTuple):
    """What a request wants."""

    unit: str
    messages: Chat
    body: Callable[[Reply], Row]
    """Makes the body of a response of the reply."""
    streamed: ChatRequest | None = None
    """The chat that wants its answer as server-sent events."""


Read = Callable[[Row, Models], Awaitable[Wanted]]
"""Reads a request to one of the models; fills its record on the way."""


class Call:
    """A request in flight."""

    def __init__(self, app: "App", path: str) -> None:
        self.app, self.now, self.started, self.request_id = app, app.answering, time.monotonic(), uuid.uuid4().hex
        self.fingerprint = self.now.service.deployment.fingerprint
        self.row: Row = {**dict.fromkeys(REQUEST.names), "request_id": self.request_id, "time": datetime.now(UTC), "path": path}
        self.row |= {"deployment": self.fingerprint, "abstained": False}
        self.row |= dict.fromkeys(("unit", "error", "route", "reason", "finish_reason"), "")
        self.text, self.news = "", asyncio.Event()  # the answer so far; set when it has grown
        self.ended = (GONE, "client_disconnected")  # status and error of an answer that grows, unless it gets to its end
        app.in_flight += 1
        self.now.in_flight += 1

    async def respond(self, request: Request, read: Read) -> Response:
        """Return the response; the call ends with it, or with its last event."""
        try:
            response = await self._answered(request, read)
        except ApiError as error:
            response = self._failed(error)
        except ClientDisconnect:
            response = Response(status_code=GONE)
            self.row |= {"error": "client_disconnected"}
        except Exception:
            log.exception("request %s failed", self.request_id)
            response = self._failed(INTERNAL)
        except asyncio.CancelledError:  # the server ends
            self._leave()
            raise
        if not isinstance(response, _Growing):
            self._leave()
            self._keep(response.status_code)
        response.headers["x-request-id"] = self.request_id
        response.headers["x-rayleigh-deployment"] = self.fingerprint[:16]
        return response

    async def _answered(self, request: Request, read: Read) -> Response:
        wanted = await read(self.row, self.now.models)
        self.row |= {"unit": wanted.unit, "prompt_hash": prompt_hash(wanted.messages)}
        if self.app.is_draining:
            raise ApiError(503, "unavailable", "The server stops.", retry_after=5)
        service, deadline = self.now.service, self.started + self.app.limits.deadline
        service.check_room(deadline)  # before the search for personal data, which is most of what a refused request would cost
        asked = service.prepared(service.target.units[wanted.unit], wanted.messages)
        self.row["prompt"] = asked.text
        grows = wanted.streamed is not None and service.streams(asked.unit)
        reply = asyncio.ensure_future(service.reply(asked, self.request_id, deadline, self.row, self._grown if grows else None))
        gone, news = asyncio.ensure_future(_disconnected(request)), asyncio.ensure_future(self.news.wait())
        response: Response | None = None
        try:
            await asyncio.wait((reply, gone, news), return_when=asyncio.FIRST_COMPLETED)
            if reply.done():
                response = self._whole(wanted, asked, reply.result())
            elif gone.done() or wanted.streamed is None:
                raise ClientDisconnect
            else:
                response = _Growing(self._events(wanted.streamed, asked, reply), lambda: self._end(reply))
            return response
        finally:
            gone.cancel()
            news.cancel()
            if not isinstance(response, _Growing):
                await _cancel(reply)

    def _grown(self, text: str) -> None:
        self.text = text
        self.news.set()

    def _whole(self, wanted: Wanted, asked: Asked, reply: Reply) -> Response:
        self._replied(asked, reply)
        if wanted.streamed is None:
            return JSONResponse(wanted.body(reply))
        return StreamingResponse(self._chat_events(wanted.streamed).whole(reply), media_type=MEDIA_TYPE, headers=NOT_STORED)

    async def _events(self, streamed: ChatRequest, asked: Asked, reply: "asyncio.Future[Reply]") -> AsyncIterator[str]:
        """Yield the answer as it grows; an error after the beginning is an event."""
        events = self._chat_events(streamed)
        yield events.begin()
        try:
            while not reply.done():
                self.news.clear()
                if event := events.grow(self.text):
                    yield event
                await self._changed(reply)
            self._replied(asked, reply.result())
            last, self.ended = [*events.end(reply.result())], (200, "")
        except ApiError as error:
            last, self.ended = [events.fail(error)], (error.status, error.code)
        except Exception:
            log.exception("request %s failed", self.request_id)
            last, self.ended = [events.fail(INTERNAL)], (INTERNAL.status, INTERNAL.code)
        for event in last:
            yield event

    async def _changed(self, reply: "asyncio.Future[Reply]") -> None:
        """Return once the answer has grown, or is complete."""
        news = asyncio.ensure_future(self.news.wait())
        try:
            await asyncio.wait((reply, news), return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()

    async def _end(self, reply: "asyncio.Future[Reply]") -> None:
        """End a call whose answer was sent as it grew."""
        reply.cancel()
        self._leave()
        status, self.row["error"] = self.ended
        self._keep(status)
        await _cancel(reply)

    def _chat_events(self, streamed: ChatRequest) -> ChatEvents:
        return ChatEvents(self.request_id, self.fingerprint, streamed, int(time.time()))

    def _replied(self, asked: Asked, reply: Reply) -> None:
        for companion in self.app.options.companions:
            companion.replied(asked, reply)

    def _failed(self, error: ApiError) -> Response:
        self.row |= {"error": error.code}
        return JSONResponse(error.body, error.status, headers=error.headers)

    def _leave(self) -> None:
        self.app.in_flight -= 1
        self.now.in_flight -= 1

    def _keep(self, status: int) -> None:
        self.row |= {"status": status, "latency_ms": (time.monotonic() - self.started) * 1000}
        self.app.keep(self.row)


class _Growing(StreamingResponse):
    """Events that end their call, also if the caller goes before the last, or before the first."""

    def __init__(self, events: AsyncIterator[str], end: Callable[[], Awaitable[None]]) -> None:
        super().__init__(events, media_type=MEDIA_TYPE, headers=NOT_STORED)
        self.end = end

    async def __call__(self, *connection: Any) -> None:
        """Send the events."""
        try:
            await super().__call__(*connection)
        finally:
            await self.end()


async def _cancel(task: "asyncio.Future[Any]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    """Return once the caller has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
