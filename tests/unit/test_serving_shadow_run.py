"""A shadow beside a server of stand-ins: what it counts, keeps and reports, and that nothing of it reaches a user."""

import asyncio
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from serving_world import ANSWER, Server, Standin, serving, write_release

from engine.contract.models import Sampling
from engine.contract.profile import Pool
from engine.contract.serving import Shadow as Section
from engine.errors import StorageError
from engine.inference.engine import Completion
from engine.records.shadow import ShadowState, ShadowView
from engine.release.shadow_events import ShadowEvents
from engine.serving.deployment import load
from engine.serving.fallback import Fallback
from engine.serving.recorder import Keeping, Recorder
from engine.serving.router import Answer, Asked
from engine.serving.schemas import SHADOW
from engine.serving.shadow_run import QUEUE, ShadowRun
from engine.serving.shadow_side import Side, Started, start_engine
from engine.serving.shadow_state import StateFile
from engine.storage.folder import Folder
from jobs.commands.sql import Views

SECTION = Section(share=1.0, floor=0.5, least=5, delta=0.05)
OTHER = '{"product":"red chairs","quantity":null}'


def says(text: str, finish_reason: str = "stop") -> Started:
    async def handler(asked: Asked, deadline: float) -> Answer:
        return Answer(text, finish_reason, 0.9, 7, 5, 0.01)

    return Started(handler)


def does(act: Any) -> Started:
    async def handler(asked: Asked, deadline: float) -> Answer:
        return await act()

    return Started(handler)


class Shadow:
    """A shadow that keeps everything in a folder."""

    def __init__(self, folder: Path, challenger: Started | None, reference: Started | None, **given: Any) -> None:
        self.folder, self.events, self.fault = folder, ShadowEvents(Folder(str(folder / "registry")), "orders"), given.get("fault")
        seconds = given.get("seconds", 5.0)
        mine, other = (
            Side(name, name * 8, lambda made=made: made, seconds) if made else None  # type: ignore[misc]
            for name, made in (("challenger", challenger), ("teacher", reference))
        )
        recorder = Recorder(Keeping(folder / "kept" / "shadow", text=True), SHADOW)
        self.run = ShadowRun(
            given.get("section", SECTION), mine, other, recorder, StateFile(folder / "kept" / "shadow"), self.report
        )

    def report(self, state: ShadowState, view: ShadowView, section: Section) -> None:
        if self.fault:
            raise self.fault
        self.events.add(state, view, section)

    def words(self) -> list[str]:
        return [event.word for event in self.events.all()]

    def rows(self) -> list[dict[str, Any]]:
        Path(self.folder / "kept" / "open").mkdir(parents=True, exist_ok=True)
        Path(self.folder / "kept" / "hours").mkdir(parents=True, exist_ok=True)
        return Views(str(self.folder / "kept")).rows("select * from shadows order by pairs")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


async def ask(server: Server, times: int) -> None:
    assert [(await server.chat()).status_code for _ in range(times)] == [200] * times


def pairs(shadow: Shadow) -> int:
    return shadow.run.test.state.pairs if shadow.run.test else 0


def test_a_challenger_that_agrees_is_promoted_in_rows_and_in_events(release: Path, tmp_path: Path) -> None:
    shadow = Shadow(tmp_path, says(ANSWER.replace(",", ", ")), says(ANSWER), section=SECTION.model_copy(update={"margin": 0.5}))

    async def run() -> None:
        async with serving(release, companions=[shadow.run]) as server:
            await ask(server, 25)
            await server.until(lambda: pairs(shadow) == 25)
            await server.until(lambda: shadow.words() == ["keep watching", "promote"])
            state = (await server.client.get("/readyz")).json()["shadow"]
            assert state["word"] == "promote" and state["challenger"] == "challenger" * 8 and state["pairs"] == 25
            metrics = (await server.client.get("/metrics")).text
            assert "rayleigh_shadow_promote 1.0" in metrics and "rayleigh_shadow_agreed 25.0" in metrics

    asyncio.run(run())
    rows = shadow.rows()
    assert len(rows) == 25 and {row["word"] for row in rows} == {"keep watching", "promote"}
    assert all(row["agrees"] and row["champion_agrees"] and row["reference_answer"] == ANSWER for row in rows)
    event = shadow.events.all()[-1]
    assert event.state.champion == rows[0]["champion"] and event.agreement is not None and event.floor == 0.5 and event.who


@pytest.mark.parametrize(
    ("challenger", "fault"),
    [
        (says(OTHER), ""),
        (says("not even JSON"), ""),
        (says("", "length"), "it ended as length"),
        (says(ANSWER, "error"), "it ended as error"),
    ],
)
def test_one_that_answers_otherwise_or_garbage_is_refused(release: Path, tmp_path: Path, challenger: Started, fault: str) -> None:
    shadow = Shadow(tmp_path, challenger, says(ANSWER))

    async def run() -> None:
        async with serving(release, companions=[shadow.run]) as server:
            await ask(server, 12)
            await server.until(lambda: shadow.words()[-1:] == ["refuse"])

    asyncio.run(run())
    rows = shadow.rows()
    assert not any(row["agrees"] for row in rows) and {row["challenger_fault"] for row in rows} == {fault}


def test_the_teacher_alone_compares_the_champion_and_an_unanswered_reference_counts_for_nothing(
    release: Path, tmp_path: Path
) -> None:
    answers = iter([OTHER, ANSWER, ANSWER])

    async def teacher() -> Answer:
        text = next(answers, "")
        return Answer(text, "stop" if text else "error", None, 1, 1, 0.0)

    shadow = Shadow(tmp_path, None, does(teacher))

    async def run() -> None:
        async with serving(release, companions=[shadow.run]) as server:
            await ask(server, 5)
            await server.until(lambda: bool(shadow.run.test) and shadow.run.test.state.unpaired == 2)
            state = shadow.run.test.state  # type: ignore[union-attr]
            assert (state.pairs, state.agreed, state.challenger) == (3, 2, server.app.service.deployment.fingerprint)

    asyncio.run(run())


def test_without_a_teacher_the_champion_is_the_reference(release: Path, tmp_path: Path) -> None:
    shadow = Shadow(tmp_path, says(ANSWER), None)

    async def run() -> None:
        async with serving(release, companions=[shadow.run]) as server:
            await ask(server, 4)
            await server.until(lambda: pairs(shadow) == 4)
            state = shadow.run.test.state  # type: ignore[union-attr]
            assert state.reference == server.app.service.deployment.fingerprint and state.agreed == 4 and state.wins == 0

    asyncio.run(run())


def test_a_shadow_that_hangs_costs_the_user_nothing_and_its_queue_is_bounded(release: Path, tmp_path: Path) -> None:
    async def hang() -> Answer:
        await asyncio.sleep(3600)
        raise AssertionError

    shadow = Shadow(tmp_path, does(hang), says(ANSWER), seconds=3600.0)

    async def run() -> None:
        started = time.monotonic()
        async with serving(release, companions=[shadow.run]) as server:
            await ask(server, QUEUE + 20)
            assert shadow.run.queue.qsize() == QUEUE and shadow.run.dropped > 0
            assert "rayleigh_shadow_waiting 64.0" in (await server.client.get("/metrics")).text
        assert time.monotonic() - started < 3000  # it did not wait for the shadow

    asyncio.run(run())


def test_an_answer_in_shadow_has_a_deadline_of_its_own(release: Path, tmp_path: Path) -> None:
    async def hang() -> Answer:
        await asyncio.sleep(3600)
        raise AssertionError

    shadow = Shadow(tmp_path, does(hang), says(ANSWER), seconds=0.05)

    async def run() -> None:
        async with serving(release, companions=[shadow.run]) as server:
            await ask(server, 12)
            await server.until(lambda: shadow.words()[-1:] == ["refuse"])

    asyncio.run(run())
    assert shadow.rows()[0]["challenger_fault"] == "no answer within 0.05 s"


class Deadly(Standin):
    """Kills its own process, or hangs, on the second batch after its warm-up."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.count = how, 0

    def complete(self, requests: Any, sampling: Sampling) -> list[Completion]:
        """Answer, die or hang."""
        self.count += 1
        if self.count > 2 and self.how == "die":
            os._exit(7)
        if self.count > 2:
            time.sleep(3600)
        return super().complete(requests, sampling)


@pytest.mark.parametrize("how", ["die", "hang"])
def test_an_engine_that_dies_or_hangs_is_started_again(release: Path, tmp_path: Path, how: str, monkeypatch: Any) -> None:
    from engine.serving import shadow_side
    from engine.serving.deployment import load

    monkeypatch.setattr(shadow_side, "FIRST_RESTART", 0.1)
    student = load(Folder(str(release))).student()
    pool = Pool(cpus=1, max_num_seqs=2)
    model = Fallback(student, pool)
    shadow = Shadow(tmp_path, None, says(ANSWER))
    start = partial(start_engine, model, lambda answer, unit: answer, partial(Deadly, how), 0.5, background=False)
    side = shadow.run.challenger = Side("challenger", "c" * 64, start, 30.0)
    side.delay = 0.1

    async def run() -> None:
        async with serving(release, companions=[shadow.run]) as server:
            await server.until(lambda: side.is_ready, 50)  # a process is started
            await ask(server, 4)
            for _ in range(200):
                await ask(server, 1)
                await asyncio.sleep(0.05)
                if side.restarts:
                    break
            assert side.restarts == 1
            await server.until(lambda: side.is_ready, 50)  # a process is started

    asyncio.run(run())
    faults = {row["challenger_fault"] for row in shadow.rows()}
    assert "its engine failed" in faults and "" in faults


def test_a_model_in_shadow_gives_way_while_a_user_waits(release: Path, tmp_path: Path) -> None:
    model = Fallback(load(Folder(str(release))).student(), Pool(cpus=1, max_num_seqs=2))
    shadow, engine = Shadow(tmp_path, None, says(ANSWER)), Standin()
    start = partial(start_engine, model, lambda answer, unit: answer, partial(Standin, ANSWER), 60.0, background=False)
    side = shadow.run.challenger = Side("challenger", "c" * 64, start, 30.0)

    def gives_way() -> bool:
        assert side.started and side.started.worker and side.started.worker.process
        return bool(side.started.worker.process.busy.value)

    async def run() -> None:
        async with serving(release, engine, companions=[shadow.run]) as server:
            await server.until(lambda: side.is_ready, 50)  # a process is started
            engine.gate.clear()
            user = asyncio.create_task(server.chat())
            await server.until(gives_way)
            engine.gate.set()
            assert (await user).status_code == 200
            await server.until(lambda: not gives_way())

    asyncio.run(run())


def test_counts_go_on_after_a_restart_and_events_wait_for_the_registry(release: Path, tmp_path: Path) -> None:
    async def run(shadow: Shadow, times: int, until: int) -> None:
        async with serving(release, companions=[shadow.run]) as server:
            await ask(server, times)
            await server.until(lambda: pairs(shadow) == until)

    first = Shadow(tmp_path, says(OTHER), says(ANSWER), fault=StorageError("the registry is away"))
    asyncio.run(run(first, 3, 3))
    assert first.words() == [] and first.run.comparison.is_behind
    second = Shadow(tmp_path, says(OTHER), says(ANSWER))
    asyncio.run(run(second, 2, 5))
    assert second.words() == ["keep watching"]
    asyncio.run(run(Shadow(tmp_path, says(OTHER), says(ANSWER)), 10, 15))
    assert second.words() == ["keep watching", "refuse"]


def test_two_servers_do_not_compare_in_one_folder(tmp_path: Path) -> None:
    first = StateFile(tmp_path)
    with pytest.raises(StorageError, match="another server"):
        StateFile(tmp_path)
    first.close()
    StateFile(tmp_path).close()
