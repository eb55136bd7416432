"""A server that follows its registry: a promotion and a rollback between requests, and what keeps the old deployment."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from serving_world import ASK, CONTRACT, Server, Standin, serving, work_of, write_release

from engine.contract.contract import Contract
from engine.errors import InputError, StorageError
from engine.inference.engine_process import EngineProcess
from engine.records.release import RegistryEvent
from engine.serving.deployment import load
from engine.serving.follower import Follower
from engine.serving.recorder import Keeping
from engine.serving.service import Service
from engine.serving.worker import Worker
from engine.storage.folder import Folder
from jobs.commands.serve_follow import ChampionOf
from jobs.commands.sql import Views

OLD, NEW = '{"product":"old","quantity":null}', '{"product":"new","quantity":null}'


class Registry:
    """Three releases, and a champion among them; engines are stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shorter = Contract.model_validate({**CONTRACT.model_dump(), "prompts": {**CONTRACT.prompts.model_dump(), "max_chars": 900}})
        self.places = {
            "old": write_release(folder / "old"), "new": write_release(folder / "new", shorter), "third": folder / "third",
        }  # fmt: skip
        write_release(self.places["third"])
        self.champion, self.fault, self.refusal = "old", None, None
        self.engines: dict[str, Standin] = {"old": Standin(OLD), "new": Standin(NEW), "third": Standin()}
        self.made: list[Service] = []

    def __call__(self) -> str | None:
        if self.fault:
            raise self.fault
        return str(self.places[self.champion])

    def prepare(self, url: str, running: Service) -> Service:
        if self.refusal:
            raise self.refusal
        name = Path(url).name
        deployment = load(Folder(url))
        self.made.append(Service(deployment, Worker(work_of(deployment, self.engines[name])), running.final))
        return self.made[-1]

    def serving(self, **given: Any) -> Any:
        keep = given.pop("keep", True)
        follower = Follower(self, self.prepare, keep=keep, every=0.01)
        return serving(self.places["old"], self.engines["old"], companions=[follower], **given)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


async def answer(server: Server) -> str:
    response = await server.chat()
    assert response.status_code == 200
    return response.json()["choices"][0]["message"]["content"]


def answers_with(server: Server, registry: Registry, name: str) -> Callable[[], bool]:
    return lambda: server.app.service.deployment.folder == str(registry.places[name])


def test_a_promotion_and_a_rollback_take_effect_and_no_request_fails(registry: Registry, tmp_path: Path) -> None:
    kept = tmp_path / "kept"

    async def run() -> None:
        async with registry.serving(keeping=Keeping(kept)) as server:
            statuses: list[int] = []

            async def ask_all_the_time() -> None:
                while True:
                    statuses.append((await server.chat()).status_code)

            callers = [asyncio.ensure_future(ask_all_the_time()) for _ in range(4)]
            assert await answer(server) == OLD
            old = server.app.service.deployment.fingerprint
            registry.champion = "new"
            await server.until(answers_with(server, registry, "new"))
            assert await answer(server) == NEW and len(registry.made) == 1
            new = server.app.service.deployment.fingerprint
            ready = (await server.client.get("/readyz")).json()
            assert (ready["deployment"], ready["previous"]) == (new, old) and ready["registry"]["champion"].endswith("/new")
            metrics = (await server.client.get("/metrics")).text
            assert f'rayleigh_deployment{{fingerprint="{new}"}} 1.0' in metrics and old not in metrics
            assert "rayleigh_swaps_total 1.0" in metrics and "rayleigh_previous_loaded 1.0" in metrics

            registry.champion = "old"
            await server.until(answers_with(server, registry, "old"))
            assert await answer(server) == OLD and len(registry.made) == 1  # it was still loaded
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
            assert set(statuses) == {200}

    asyncio.run(run())
    rows = Views(str(kept)).rows("select count(distinct deployment) as n, count(distinct answer) as answers from requests")
    assert rows == [{"n": 2, "answers": 2}]


def test_a_request_that_began_before_the_swap_is_answered_by_what_it_began_with(registry: Registry) -> None:
    async def run() -> None:
        async with registry.serving(keep=False) as server:
            first = server.app.service
            server.engine.gate.clear()
            begun = asyncio.ensure_future(server.chat())
            await server.until(lambda: len(first.worker.running) == 1)
            registry.champion = "new"
            await server.until(answers_with(server, registry, "new"))
            assert await answer(server) == NEW
            server.engine.gate.set()
            body = (await begun).json()
            assert body["choices"][0]["message"]["content"] == OLD
            assert body["rayleigh"]["deployment"] == first.deployment.fingerprint
            await server.until(lambda: not first.worker.thread.is_alive())  # without --keep-previous it ends then

    asyncio.run(run())


def test_what_may_not_take_over_is_said_and_the_old_deployment_goes_on(registry: Registry) -> None:
    async def run() -> None:
        async with registry.serving() as server:
            registry.champion, registry.refusal = "new", InputError("cascade.json: certified for another deployment")
            await server.until(lambda: server.app.options.companions[0].about()["registry"]["refused"].endswith("/new"))
            assert await answer(server) == OLD
            state = (await server.client.get("/readyz")).json()["registry"]
            assert "another deployment" in state["reason"]
            assert "rayleigh_champion_refused 1.0" in (await server.client.get("/metrics")).text

            registry.champion = "old"  # rolled back: nothing is refused any more
            await server.until(lambda: not server.app.options.companions[0].about()["registry"]["refused"])
            registry.refusal, registry.champion = None, "third"
            registry.engines["third"].faults = 99  # it fails in its warm-up
            await server.until(lambda: server.app.options.companions[0].about()["registry"]["refused"].endswith("/third"))
            assert await answer(server) == OLD and server.app.service.fault is None
            registry.champion = "new"
            await server.until(answers_with(server, registry, "new"))

    asyncio.run(run())


def test_a_registry_that_cannot_be_read_changes_nothing(registry: Registry) -> None:
    async def run() -> None:
        async with registry.serving() as server:
            registry.fault = StorageError("the disk is away")
            await server.until(lambda: server.app.options.companions[0].numbers()["registry_unreadable"] == 1)
            assert await answer(server) == OLD
            registry.fault, registry.champion = None, "new"
            await server.until(answers_with(server, registry, "new"))

    asyncio.run(run())


def test_with_a_third_champion_two_deployments_are_loaded_at_most(registry: Registry) -> None:
    async def run() -> None:
        async with registry.serving() as server:
            first = server.app.service
            registry.champion = "new"
            await server.until(answers_with(server, registry, "new"))
            assert first.worker.thread.is_alive()
            registry.champion = "third"
            await server.until(answers_with(server, registry, "third"))
            assert not first.worker.thread.is_alive() and registry.made[0].worker.thread.is_alive()
        assert not any(service.worker.thread.is_alive() for service in registry.made)  # a drain ends all

    asyncio.run(run())


def test_an_engine_in_its_own_process_answers_fails_and_ends(registry: Registry) -> None:
    deployment = load(Folder(str(registry.places["new"])))
    work = work_of(deployment, Standin())
    made: list[EngineProcess] = []

    def start(patience: float | None = None) -> Worker:
        def engine() -> EngineProcess:
            made.append(EngineProcess(partial(Standin, NEW), 4, patience=patience))
            return made[-1]

        worker = Worker(work._replace(engine=engine))
        worker.start()
        return worker

    async def run() -> None:
        async with registry.serving() as server:
            service = Service(deployment, start(), lambda answer, unit: answer)
            await server.until(lambda: service.is_ready, 50)  # a process is started
            asked = service.prepared(next(iter(deployment.units.values())), ASK["messages"])
            replies = await asyncio.gather(*(service.reply(asked, "0" * 32, soon(), {}) for _ in range(8)))
            assert {reply.answer.text for reply in replies} == {NEW}
            service.stop(10)
            assert made[0].process.exitcode == 0

            dead = start()
            await server.until(lambda: dead.is_ready, 50)
            made[1].process.kill()
            with pytest.raises(Exception, match="engine"):
                await Service(deployment, dead, lambda answer, unit: answer).reply(asked, "0" * 32, soon(), {})
            await server.until(lambda: dead.fault is not None)  # at once, not after three requests
            assert "exit code -9" in str(dead.fault)

    asyncio.run(run())


def soon() -> float:
    return time.monotonic() + 30


def test_the_champion_is_read_from_the_registry_when_there_is_a_new_event(tmp_path: Path) -> None:
    def write(number: int, **given: Any) -> None:
        stamp = {"id": f"{number:012x}", "contract": "orders", "time": "2026-01-01T00:00:00Z", "student": "s", "fingerprint": "f"}
        event = RegistryEvent.model_validate({"kind": "promote", **stamp, **given})
        Folder(str(tmp_path / "orders")).create(f"history/{number:08d}.json", event.model_dump_json().encode())

    champion = ChampionOf(Folder(str(tmp_path / "orders")))
    assert champion() is None
    write(1, release="releases/a")
    assert champion() == f"{tmp_path}/orders/releases/a"
    write(2, release="releases/b", before=f"{1:012x}")
    assert champion() == f"{tmp_path}/orders/releases/b"
    write(3, kind="rollback", release="releases/a", to_id=f"{1:012x}")
    assert champion() == f"{tmp_path}/orders/releases/a"
