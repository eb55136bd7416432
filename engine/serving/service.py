"""One request through a deployment: redaction, the student, the router's decision, perhaps a handler."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from engine.contract.budget import HOUR
from engine.contract.specialist import TaskUnit
from engine.evaluation.evaluator import EvalTarget
from engine.evaluation.predict import answer_of, confidence
from engine.inference.engine import Chat, Completion, Request
from engine.prompts.redact import redact_text
from engine.rows import Row
from engine.serving.api_error import ApiError, wrong
from engine.serving.deployment import Deployment
from engine.serving.niche_engine import asked_of
from engine.serving.refusals import Busy, EngineFault, Expired, Unavailable
from engine.serving.router import AlwaysAnswer, Answer, Asked, Decision, Handler, Router
from engine.serving.ticket import Computed
from engine.serving.worker import Worker

if TYPE_CHECKING:
    from engine.serving.fallback import Fallback

UNASKED = Answer("", "", None, 0, 0, 0.0)
"""In place of an answer where no model was asked."""
WARM_UP = "Hello."


async def nothing() -> None:
    """Close nothing."""


class Reply(NamedTuple):
    """What the caller gets."""

    request_id: str
    unit: TaskUnit
    answer: Answer
    route: str
    abstained: bool
    reason: str
    deployment: str
    student: Answer | None = None
    """The student's own answer, given or not; None: it was not asked."""


@dataclass
class Service:
    """A deployment with its engine."""

    deployment: Deployment
    worker: Worker
    final: Callable[[str, TaskUnit], str]
    """Takes the rationale out of an answer, as the evaluation does."""
    router: Router = field(default_factory=AlwaysAnswer)
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    """Route -> what answers requests that are handed on to it."""
    teacher: Worker | None = None
    """The engine of a handler on this machine: it starts, stops and fails with the student's."""
    close: Callable[[], Awaitable[None]] = nothing
    """Called when the server ends: closes the connections of handlers."""
    fallback: "Fallback | None" = None
    """Whom the handlers ask, if it is the teacher of the manifest."""
    niche: Worker | None = None
    """Says whether a request is outside the niche (`niche_engine.py`); None: nothing checks it."""

    @property
    def workers(self) -> tuple[Worker, ...]:
        """All engines, the student's first."""
        return tuple(worker for worker in (self.worker, self.teacher, self.niche) if worker)

    @property
    def is_ready(self) -> bool:
        """Whether all engines are loaded and take requests."""
        return all(worker.is_ready for worker in self.workers)

    @property
    def is_busy(self) -> bool:
        """Whether an engine has requests."""
        return any(worker.waiting or worker.running for worker in self.workers)

    @property
    def fault(self) -> BaseException | None:
        """Why an engine has failed for good; None while none has."""
        return next((worker.fault for worker in self.workers if worker.fault), None)

    def start(self) -> None:
        """Load the engines, the student's after the teacher's: the memory that it takes is known then."""
        for worker in self.workers:
            if worker.thread.ident is None:  # a teacher may run already, for the deployment before
                worker.start(after=self.teacher if worker is self.worker else None)

    def stop(self, seconds: float, *, keep: "Service | None" = None) -> None:
        """Take no further request, and wait for those that were taken: those of the student may still be handed on.

        Engines that `keep` uses, too, go on.
        """
        first = (self.niche,) if self.niche else ()  # what it lets pass is the student's
        for worker in dict.fromkeys((*first, *self.workers)):
            if keep is None or worker not in keep.workers:
                worker.stop(seconds)

    @cached_property
    def target(self) -> EvalTarget:
        """The student, as it was evaluated."""
        return self.deployment.student()

    def prepared(self, unit: TaskUnit, messages: Chat) -> Asked:
        """Return a request as the model may read it: redacted, and no longer than what was measured.

        Raises:
            ApiError: the user says nothing, or too much.
        """
        chars, most = sum(len(turn["content"]) for turn in messages), self.deployment.manifest.max_chars
        if chars > most:
            raise ApiError(400, "context_length_exceeded", f"The request has {chars} characters, at most {most} were measured.")
        kinds = self.deployment.redact
        turns = [{**turn, "content": redact_text(turn["content"], kinds, set())} for turn in messages]
        text = "\n".join(turn["content"] for turn in turns if turn["role"] == "user")
        if not text.strip():
            raise wrong("messages", "the user says nothing.")
        return Asked(unit, turns, text)

    def check_room(self, deadline: float) -> None:
        """Check that the student would take a request now, before anything is computed for it.

        Raises:
            ApiError: the queue is full, or the engine loads, stops or has failed.
        """
        try:
            self.worker.check_room(deadline)
        except Busy as busy:
            raise _refused(busy) from None
        except Unavailable as state:
            raise _unavailable(state) from None

    def streams(self, unit: TaskUnit) -> bool:
        """Return whether an answer may be given as it grows: nothing decides about it at its end, or takes a part of it away."""
        takes_away = self.target.thinks is not None or unit.supervise == "process" or unit.lenient_json
        return isinstance(self.router, AlwaysAnswer) and not takes_away

    async def reply(
        self, asked: Asked, request_id: str, deadline: float, row: Row, grown: Callable[[str], None] | None = None
    ) -> Reply:
        """Return the reply to a request that must be answered by `deadline` (of `time.monotonic`); fill `row` (REQUEST) on the way.

        `grown` is called with the beginnings of the student's answer, if the engine gives them.

        Raises:
            ApiError: there is no answer; the caller is told why.
        """
        if self.niche:
            computed = await self._completed(self.niche, asked_of(asked.text), deadline)
            asked = asked._replace(outside=computed.completion.text)
        decision, answer, student = self.router.screen(asked), UNASKED, None
        if decision is None:
            answer = student = await self._student(asked, deadline, row, grown)
            row |= {"confidence": answer.confidence}
            decision = self.router.decide(asked, answer)
        row |= {"reason": decision.reason, "route": decision.route, "abstained": decision.action == "abstain"}
        if decision.action == "hand_on":
            answer = await self._handed_on(asked, decision, deadline)
            spent = self.deployment.price.money(decision.route, answer.tokens_in, answer.tokens_out, answer.seconds)
            row |= {"cost": (row.get("cost") or 0.0) + spent}
        row |= {"finish_reason": answer.finish_reason, "answer": None if decision.action == "abstain" else answer.text}
        row |= {"tokens_in": answer.tokens_in, "tokens_out": answer.tokens_out}
        abstained = decision.action == "abstain"
        fingerprint = self.deployment.fingerprint
        return Reply(request_id, asked.unit, answer, decision.route, abstained, decision.reason, fingerprint, student)

    async def _student(self, asked: Asked, deadline: float, row: Row, grown: Callable[[str], None] | None) -> Answer:
        computed = await self._completed(self.worker, request_of(self.target, asked), deadline, grown)
        answer = answer_in(self.target, asked.unit, computed.completion, self.final)
        row |= _measures(computed, self.deployment.price.per_machine_hour)
        row |= {"tokens_in": answer.tokens_in, "tokens_out": answer.tokens_out, "finish_reason": answer.finish_reason}
        if answer.finish_reason == "too_long":
            raise ApiError(400, "context_length_exceeded", f"The request is too long: {answer.error}.")
        if answer.finish_reason not in ("stop", "length"):
            raise ApiError(500, "engine_error", "The engine cannot answer this request.")
        return answer

    async def _completed(
        self, worker: Worker, request: Request, deadline: float, grown: Callable[[str], None] | None = None
    ) -> Computed:
        try:
            return await worker.ask(request, deadline=deadline, grown=grown)
        except Busy as busy:
            raise _refused(busy) from None
        except Expired:
            raise ApiError(504, "deadline_exceeded", "The request was not answered by its deadline.") from None
        except Unavailable as state:
            raise _unavailable(state) from None
        except EngineFault as fault:
            raise ApiError(500, "engine_error", f"The engine failed on a batch with this request: {fault}.") from None

    async def _handed_on(self, asked: Asked, decision: Decision, deadline: float) -> Answer:
        """Return the answer of a route.

        Raises:
            ApiError: it fails; the student's answer, which was not good enough, is not given in its place.
        """
        handler = self.handlers.get(decision.route)
        if handler is None:
            raise ApiError(502, "fallback_failed", f"The request was handed on to {decision.route!r}, which this server has not.")
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                answer = await handler(asked, deadline)
        except TimeoutError:
            raise ApiError(504, "deadline_exceeded", "The request was handed on, and not answered by its deadline.") from None
        except Busy as busy:  # the engine of a teacher on this machine
            raise _refused(busy) from None
        except Exception as error:  # whatever a server of somebody else causes
            raise ApiError(502, "fallback_failed", f"{decision.route} failed: {type(error).__name__}.") from None
        if answer.finish_reason != "stop":  # an answer that was cut is none, as for `engine.serving.cascade`
            raise ApiError(502, "fallback_failed", f"{decision.route} gave no answer: it ended as {answer.finish_reason}.")
        return answer


def request_of(target: EvalTarget, asked: Asked) -> Request:
    """Return the request that the engine gets: the one that the evaluation sends for the same prompt."""
    return target.request({"task_unit": asked.unit.name, "messages": asked.messages, "text": asked.text})


def answer_in(target: EvalTarget, unit: TaskUnit, completion: Completion, final: Callable[[str, TaskUnit], str]) -> Answer:
    """Return the answer in a completion, as the evaluation reads it."""
    read = target.strip_reasoning(completion)
    counts = read.tokens_in, read.tokens_out, read.seconds
    return Answer(answer_of(read, unit, final), read.finish_reason, confidence(read), *counts, error=read.error)


def warm_up(target: EvalTarget) -> list[Request]:
    """Return one request for each task unit: the engine compiles its grammar, and caches what all prompts share."""
    turns = [{"role": "user", "content": WARM_UP}]
    return [request_of(target, Asked(unit, turns, WARM_UP)) for unit in target.units.values()]


def _refused(busy: Busy) -> ApiError:
    return ApiError(429, "queue_full", str(busy), retry_after=busy.retry_after)


def _unavailable(state: Unavailable) -> ApiError:
    return ApiError(503, "unavailable", f"The engine {state}.", retry_after=5)


def _measures(computed: Computed, per_hour: float) -> Row:
    seconds = computed.completion.seconds
    return {"queue_ms": computed.waited * 1000, "engine_ms": seconds * 1000, "cost": seconds / HOUR * per_hour}
