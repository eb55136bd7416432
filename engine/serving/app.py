"""The ASGI application of a server: routes, keys, errors, records. Served by uvicorn (`listen.py`) or by Ray Serve (`flow.py`)."""

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from engine.prompts.redact import redact_text
from engine.rows import Row
from engine.serving.answering import Answering, Companion
from engine.serving.api_error import ApiError
from engine.serving.body import Limits, read_json
from engine.serving.call import INTERNAL, Call, Wanted
from engine.serving.chat import Models, completion, read_chat
from engine.serving.metrics import CONTENT_TYPE, Metrics
from engine.serving.recorder import NO_RECORDS, Recorder
from engine.serving.service import Service
from engine.serving.task import output_of, read_task, task_reply

log = logging.getLogger(__name__)


class Options(NamedTuple):
    """How a server answers besides its deployment."""

    limits: Limits = Limits()
    keys: tuple[str, ...] = ()
    """API keys; without any, every caller is served."""
    recorder: Recorder | None = None
    wait: bool = False
    """Begin to listen only when the engine is loaded, as a replica of several must."""
    companions: Sequence[Companion] = ()


class App:
    """The application, and its state."""

    def __init__(self, service: Service, options: Options = Options()) -> None:  # noqa: B008 - immutable
        self.answering, self.options, self.limits = Answering(service), options, options.limits
        self.on_fatal: Callable[[BaseException], None] = lambda error: None
        self.keys = [_digest(key) for key in options.keys]
        self.recorder = options.recorder or NO_RECORDS
        self.metrics = Metrics(service.deployment.fingerprint, self._live)
        self.created, self.in_flight, self.is_draining = int(time.time()), 0, False

    @property
    def service(self) -> Service:
        """The deployment that answers now, with its engine."""
        return self.answering.service

    def watch(self, on_fatal: Callable[[BaseException], None]) -> None:
        """Call `on_fatal` once an engine of the deployment that answers has failed for good."""
        self.on_fatal = on_fatal
        for worker in self.service.workers:
            worker.on_fatal = on_fatal

    def swap(self, answering: Answering) -> Answering:
        """Let a loaded deployment answer from the next request on; return the one before, which ends what it has begun."""
        before, self.answering = self.answering, answering
        for worker in before.service.workers:
            worker.on_fatal = lambda error: None
        self.watch(self.on_fatal)
        self.metrics.swap(self.service.deployment.fingerprint)
        return before

    def asgi(self) -> Starlette:
        """Return the ASGI application. Its lifespan loads the engine, and at its end waits for all that was taken."""
        routes = [
            Route("/v1/chat/completions", self._keyed(self._chat), methods=["POST"]),
            Route("/v1/tasks/{unit}", self._keyed(self._task), methods=["POST"]),
            Route("/v1/models", self._keyed(self._list), methods=["GET"]),
            Route("/v1/models/{model:path}", self._keyed(self._model), methods=["GET"]),
            Route("/healthz", self._health, methods=["GET"]),
            Route("/readyz", self._ready, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
        ]
        handlers = {ApiError: _api_error, HTTPException: _http_error, Exception: _fault}
        asgi = Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan)  # type: ignore[arg-type]
        asgi.state.rayleigh = self
        return asgi

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.recorder.start()
        await asyncio.to_thread(self._warm)
        self.service.start()
        while self.options.wait and not self.service.is_ready:
            if self.service.fault:
                raise self.service.fault
            await asyncio.sleep(0.1)
        for companion in self.options.companions:
            companion.start(self)
        yield
        self.is_draining = True
        for companion in self.options.companions:
            await companion.stop()
        await asyncio.to_thread(self.service.stop, self.limits.deadline)
        await self.service.close()
        await asyncio.to_thread(self.recorder.close)

    def _warm(self) -> None:
        """Load what finds personal data and checks schemas: seconds that no request shall wait for."""
        for kinds in (self.service.deployment.redact, self.recorder.kinds):
            redact_text("Hello.", kinds, set())
        for unit in self.service.target.units.values():
            output_of("{}", "stop", unit)

    def _keyed(self, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def keyed(request: Request) -> Response:
            if self.keys and not self._has_key(request):
                self.metrics.refused.inc()
                raise ApiError(401, "invalid_api_key", "Send a valid key: Authorization: Bearer KEY.")
            return await answer(request)

        return keyed

    def _has_key(self, request: Request) -> bool:
        """Compare the digest of the key that was sent with all digests, each in constant time."""
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        sent = _digest(key.strip())
        return any([hmac.compare_digest(sent, known) for known in self.keys]) and kind.lower() == "bearer"

    async def _chat(self, request: Request) -> Response:
        async def read(row: Row, models: Models) -> Wanted:
            asked = read_chat(await read_json(request, self.limits), models, self.limits)
            streamed = asked if asked.stream else None
            return Wanted(asked.unit.name, asked.messages, lambda reply: completion(reply, asked.model, int(time.time())), streamed)

        return await Call(self, "chat").respond(request, read)

    async def _task(self, request: Request) -> Response:
        async def read(row: Row, models: Models) -> Wanted:
            name = request.path_params["unit"]
            if name not in (units := {unit.name: unit for unit in models.units.values()}):
                there = ", ".join(units)
                raise ApiError(404, "unit_not_found", f"There is no task unit {name[:64]!r}; there are {there}.")
            row["unit"] = name
            return Wanted(name, read_task(await read_json(request, self.limits)), task_reply)

        return await Call(self, "task").respond(request, read)

    def keep(self, row: Row) -> None:
        """Count and record a request that has ended (REQUEST)."""
        self.metrics.count(row)
        self.recorder.put(row)
        log.info("%s %s %s %s %.0f ms", row["request_id"], row["path"], row["unit"], row["status"], row["latency_ms"])

    async def _list(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._described(name) for name in self.answering.models.units]})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["model"]
        if name not in self.answering.models.units:
            raise ApiError(404, "model_not_found", f"There is no model {name[:64]!r}.")
        return JSONResponse(self._described(name))

    def _described(self, name: str) -> Row:
        manifest, unit = self.service.deployment.manifest, self.answering.models.units[name]
        about = {"unit": unit.name, "student": manifest.student.name, "deployment": manifest.fingerprint}
        about |= {"json_schema": unit.output.json_schema, "max_tokens": manifest.student.max_tokens}
        return {"id": name, "object": "model", "created": self.created, "owned_by": manifest.contract, "rayleigh": about}

    async def _health(self, request: Request) -> Response:
        """Whether the process works: false once the engine has failed for good."""
        fault = self.service.fault
        return JSONResponse({"status": "failed" if fault else "ok"}, 503 if fault else 200)

    async def _ready(self, request: Request) -> Response:
        """Whether a request would be taken."""
        ready = self.service.is_ready and not self.is_draining
        state = "ready" if ready else "stopping" if self.is_draining else "failed" if self.service.fault else "loading"
        deployment = self.service.deployment
        about = {"status": state, "deployment": deployment.fingerprint, "student": deployment.manifest.student.name}
        for companion in self.options.companions:
            about |= companion.about()
        return JSONResponse(about, 200 if ready else 503)

    async def _metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    def _live(self) -> dict[str, float]:
        worker, kept = self.service.worker, self.recorder.counts
        live = {"in_flight": self.in_flight, "waiting": len(worker.waiting), "running": len(worker.running)}
        live |= {"ready": self.service.is_ready and not self.is_draining, "records_waiting": kept.waiting}
        live |= {"records_written_total": kept.written, "records_dropped_total": kept.dropped, "records_faults_total": kept.faults}
        for companion in self.options.companions:
            live |= companion.numbers()
        return {f"rayleigh_{name}": float(value) for name, value in live.items()}


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _error(error: ApiError) -> Response:
    return JSONResponse(error.body, error.status, headers=error.headers)


async def _api_error(request: Request, error: ApiError) -> Response:
    return _error(error)


async def _http_error(request: Request, error: HTTPException) -> Response:
    codes: dict[int, str] = {404: "not_found", 405: "method_not_allowed"}
    code = codes.get(error.status_code, "http_error")
    response = _error(ApiError(error.status_code, code, f"{request.method} {request.url.path[:200]}: {error.detail}"))
    response.headers.update(error.headers or {})
    return response


async def _fault(request: Request, error: Exception) -> Response:
    return _error(INTERNAL)
