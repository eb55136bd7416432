"""Compares a challenger, or the champion with its teacher, on a sample of the requests, out of the users' path.

A reply that was given is put into a bounded queue, which takes no time; a few tasks ask the models in shadow, compare, keep a row
and count the pair (`shadow.py`). Whatever they do wrong reaches the queue at most, which is then full: such requests are dropped,
and are neither agreement nor disagreement, as are those for which a model could not be asked. A model that was asked and gave no
answer, or garbage, has not given the reference's.
"""

import asyncio
import logging
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from engine.checks import is_exact
from engine.contract.serving import Shadow as Section
from engine.contract.specialist import TaskUnit
from engine.records.shadow import ShadowState
from engine.rows import Row
from engine.serving.recorder import Recorder
from engine.serving.router import STUDENT, Answer, Asked
from engine.serving.service import Reply
from engine.serving.shadow import ShadowTest
from engine.serving.shadow_side import Failed, Missed, Side
from engine.serving.shadow_state import Comparison, Report, StateFile
from engine.serving.trickle import uniform

if TYPE_CHECKING:
    from engine.serving.app import App

log = logging.getLogger(__name__)

QUEUE = 64  # replies that wait
TASKS = 4  # requests that are compared at once
EVERY = 1.0  # seconds between two looks at the models in shadow, and at what must be written
OFTEN = 0.1  # seconds between two looks at whether users' requests are computed


class Item(NamedTuple):
    """A reply that is to be compared."""

    asked: Asked
    reply: Reply


class Heard(NamedTuple):
    """What one model in shadow said."""

    text: str | None = None
    """Its complete answer; None: it failed, or was not asked."""
    fault: str = ""
    confidence: float | None = None
    ms: float | None = None


NOT_ASKED = Heard()


class ShadowRun:
    """A companion of the server. Without `challenger` the champion itself is compared; without `reference` the champion is that."""

    def __init__(
        self,
        section: Section,
        challenger: Side | None,
        reference: Side | None,
        recorder: Recorder,
        files: StateFile,
        report: Report,
    ) -> None:
        assert challenger or reference
        self.section, self.challenger, self.reference, self.recorder = section, challenger, reference, recorder
        self.files, self.comparison = files, Comparison(files, report)
        self.test: ShadowTest | None = None
        self.choosing = asyncio.Lock()
        self.queue: asyncio.Queue[Item] = asyncio.Queue(QUEUE)
        self.dropped = self.missed = 0

    @property
    def sides(self) -> list[Side]:
        """The models that answer in shadow."""
        return [side for side in (self.challenger, self.reference) if side]

    def start(self, app: "App") -> None:
        """Begin to load the models, and to compare."""
        self.recorder.start()
        for side in self.sides:
            side.start()
        loop = asyncio.get_running_loop()
        works = [*(self._compare_all() for _ in range(TASKS)), self._tend(), self._give_way(app)]
        self.tasks = [loop.create_task(work) for work in works]

    async def stop(self) -> None:
        """End; what waits is dropped. Counts and rows are kept."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.gather(*(side.stop() for side in self.sides), return_exceptions=True)
        await self._save()
        await asyncio.to_thread(self.recorder.close)
        self.files.close()

    def replied(self, asked: Asked, reply: Reply) -> None:
        """Take a reply into the sample, or drop it; returns at once."""
        if uniform("shadow", reply.request_id) >= self.section.share or reply.student is None:
            return
        try:
            self.queue.put_nowait(Item(asked, reply))
        except asyncio.QueueFull:
            self.dropped += 1

    def numbers(self) -> dict[str, float]:
        """Return the counts for /metrics."""
        state = self.test.state if self.test else ShadowState()
        words: dict[str, float] = {f"shadow_{word}": state.word == word for word in ("promote", "refuse")}
        shown: dict[str, float] = {"pairs": state.pairs, "agreed": state.agreed, "failed": state.failed, "unpaired": state.unpaired}
        shown |= {"dropped_total": self.dropped, "missed_total": self.missed, "waiting": self.queue.qsize()}
        shown |= {"restarts_total": sum(side.restarts for side in self.sides), "ready": all(side.is_ready for side in self.sides)}
        shown |= {"unreported": self.comparison.is_behind}
        return words | {f"shadow_{name}": value for name, value in shown.items()}

    def about(self) -> Row:
        """Return what the comparison says, for /readyz."""
        if self.test is None:
            return {"shadow": None}
        state, view = self.test.state, self.test.view()
        names = {"challenger": state.challenger, "champion": state.champion, "reference": state.reference}
        return {"shadow": {**names, **view.model_dump(mode="json")}}

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            for side in self.sides:
                with suppress(Exception):
                    side.tend()
            await self._save()

    async def _give_way(self, app: "App") -> None:
        """Let the models in shadow compute seldom while users wait for answers."""
        while True:
            await asyncio.sleep(OFTEN)
            for side in self.sides:
                side.give_way(app.service.is_busy)

    async def _save(self) -> None:
        if self.test:
            await self.comparison.save(self.test.state, self.test.view(), self.section)

    async def _compare_all(self) -> None:
        while True:
            item = await self.queue.get()
            try:
                await self._compare(item)
            except Missed:
                self.missed += 1
            except Exception:
                log.exception("a comparison in shadow failed")

    async def _compare(self, item: Item) -> None:
        champion, student = item.reply.deployment, item.reply.student
        if student is None or (self.challenger and self.challenger.fingerprint == champion):
            return  # it was promoted
        async with self.choosing:  # else tasks that come together would each begin a test
            test = await self._test(champion)
        own = Heard(student.text if student.finish_reason == "stop" else None, confidence=student.confidence)
        challenger, reference = await asyncio.gather(_heard(self.challenger, item), self._reference(item), return_exceptions=True)
        for each in (challenger, reference):
            if isinstance(each, BaseException):
                raise each
        assert isinstance(challenger, Heard) and isinstance(reference, Heard)
        if test is not self.test:
            return  # another champion answers since
        self._count(item, own, challenger, reference)

    def _count(self, item: Item, own: Heard, challenger: Heard, reference: Heard) -> None:
        """Count a pair and keep its row."""
        assert self.test
        unit, right = item.asked.unit, reference.text if self.reference else own.text
        agrees = _agrees(challenger if self.challenger else own, right, unit)
        beside = _agrees(own, right, unit) if self.challenger and self.reference else None
        if right is None:
            state = self.test.observe(None, has_reference=False)
        else:
            state = self.test.observe(agrees, bool(beside) if self.challenger and self.reference else None)
        self.recorder.put(
            {
                "request_id": item.reply.request_id, "time": datetime.now(UTC), "unit": unit.name, "prompt": item.asked.text,
                "champion": item.reply.deployment, "challenger": state.challenger, "reference": state.reference,
                "champion_answer": own.text, "challenger_answer": challenger.text, "reference_answer": reference.text,
                "challenger_fault": challenger.fault, "reference_fault": reference.fault,
                "agrees": None if right is None else agrees, "champion_agrees": beside,
                "champion_confidence": own.confidence, "challenger_confidence": challenger.confidence,
                "challenger_ms": challenger.ms, "reference_ms": reference.ms, "word": state.word, "pairs": state.pairs,
            }
        )  # fmt: skip

    async def _reference(self, item: Item) -> Heard:
        """Return the reference's answer: the one that the caller got, if the request was handed on to it."""
        if self.reference and item.reply.route == self.reference.name != STUDENT:
            answer: Answer = item.reply.answer
            return Heard(answer.text if answer.finish_reason == "stop" else None)
        return await _heard(self.reference, item)

    async def _test(self, champion: str) -> ShadowTest:
        """Return the test of `champion`'s traffic: what the pairs with another champion said is kept, and says nothing of it."""
        challenger, reference = (side.fingerprint if side else champion for side in (self.challenger, self.reference))
        beside = champion if self.challenger and self.reference else ""
        names = {"challenger": challenger, "champion": beside, "reference": reference}
        if self.test is None or names != {name: getattr(self.test.state, name) for name in names}:
            await self._save()
            state = await self.comparison.begin(ShadowState.model_validate(names))
            self.test = ShadowTest(self.section, state)
            await self._save()
        return self.test


async def _heard(side: Side | None, item: Item) -> Heard:
    """Return what a model in shadow says.

    Raises:
        Missed: it cannot be asked now.
    """
    if side is None:
        return NOT_ASKED
    started = time.monotonic()
    try:
        answer = await side.ask(item.asked)
    except Failed as fault:
        return Heard(fault=str(fault), ms=(time.monotonic() - started) * 1000)
    return Heard(answer.text, "", answer.confidence, (time.monotonic() - started) * 1000)


def _agrees(heard: Heard, right: str | None, unit: TaskUnit) -> bool | None:
    """Return whether an answer is the reference's, as the evaluation compares them; None if one of them failed."""
    if heard.text is None or right is None:
        return None
    return is_exact(heard.text, right, unit.output.json_schema)
