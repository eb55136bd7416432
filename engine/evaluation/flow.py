"""Runs evaluations on Ray: an actor for each model, loaded in parallel, timed one after another, evaluated side by side; more for a
teacher, which take a part of its prompts each."""

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import ray
from ray import ObjectRef
from ray.exceptions import RayActorError, RayError

from engine.contract.evaluation import Nearest, Rules
from engine.contract.profile import Pool, Profile
from engine.distributed import placed_actor, session
from engine.distributed.capacity import of_pool
from engine.distributed.placed_actor import PlacedActor
from engine.distributed.placement import Group, place
from engine.errors import ModelError, StoreUnreachable
from engine.evaluation.answers import EvalLedger
from engine.evaluation.evaluator import EvalTarget, Evaluated, Evaluator, failed
from engine.evaluation.waves import gib, helpers, waves
from engine.inference.engine import LIBRARIES
from engine.inference.room import free_gib
from engine.rows import Row

log = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds without an engine, after which it is looked whether a node has room for it
RESERVED_GIB = 1.0  # for what the engines that are loaded take while they answer
RESTARTS = 2  # of a model whose actor died: with its node, as a rule, which says nothing of the model
SAID = re.compile(r"^engine\.errors\.(\w+): (.+?)(?:\n\n|\Z)", re.MULTILINE | re.DOTALL)  # in a worker's traceback
Progress = Callable[[str], None]


class Kept(NamedTuple):
    """What an earlier attempt, or work ahead of the report, has left."""

    ledger: EvalLedger | None = None
    """Where answers are kept."""
    engines: Mapping[str, PlacedActor] = MappingProxyType({})
    """Engines that have begun to answer into the ledger, by the names of their models."""


NOTHING = Kept()


def evaluate(
    targets: Sequence[EvalTarget], rows: Sequence[Row], profile: Profile, *, timed: int, progress: Progress, kept: Kept = NOTHING
) -> Iterator[Evaluated]:
    """Yield the evaluation of each of `targets` on the HOLDOUT `rows`, in order; `timed` rows are sent one at a time.

    An answer that the ledger of `kept` has is not asked for again; its engines go on, and are ended here.

    As many engines as `profile.evaluator` has actors load at the same time, so that their start-up overlaps. Then each is timed
    alone, so that the others do not disturb it; what is left of the prompts they answer side by side. With a ledger further engines
    help a teacher (`helpers`). A model whose actor dies is loaded again, once the others are done. One that does not load, or dies
    each time, yields answers that end as `error`.

    Raises:
        ModelError: Ray was stopped, or a server answers no request: what is wrong there says nothing of its model.
        StoreUnreachable: a model could not reach the store of its weights or answers: that says nothing of the model.
    """
    if not ray.is_initialized():  # a call would start a new cluster
        raise ModelError("Ray was stopped. Run again: what is finished is kept.")
    groups, shared, left = session.running_groups(), _Holdout(ray.put(list(rows)), len(rows), timed), dict(kept.engines)
    for targets_of_wave in waves(targets, profile, groups):
        wave = _Wave(targets_of_wave, shared, profile, groups, kept.ledger, progress)
        wave.engines = {at: left.pop(target.name) for at, target in enumerate(targets_of_wave) if target.name in left}
        while left:  # they hold places of this wave
            left.popitem()[1].stop()
        try:
            found = wave.answers(range(len(targets_of_wave)))
            for at, target in enumerate(targets_of_wave):
                evaluated = next(found)
                for _ in range(RESTARTS):
                    if not isinstance(evaluated.error, _Died):
                        break
                    found = iter([*found])  # waits for the others: it is timed alone
                    evaluated = wave.again(at)
                if evaluated.error:
                    log.error("%s cannot be evaluated: %s", target.name, evaluated.error)
                answered = sum(completion.finish_reason == "stop" for completion in evaluated.completions)
                progress(f"{target.name}: {answered} of {len(rows)} answered")
                wave.stop(at)
                yield evaluated
        finally:
            wave.stop(*range(len(targets_of_wave)))


class _Holdout(NamedTuple):
    """The prompts, and how many of them are sent one at a time."""

    rows: ObjectRef[list[Row]]
    size: int
    timed: int


class _Wave:
    """Models that answer at the same time, each with an engine of its own, and those that help it."""

    def __init__(
        self,
        targets: Sequence[EvalTarget],
        holdout: _Holdout,
        profile: Profile,
        groups: Sequence[Group],
        ledger: EvalLedger | None,
        progress: Progress,
    ) -> None:
        self.targets, self.holdout, self.profile, self.groups, self.ledger = targets, holdout, profile, groups, ledger
        self.progress = progress
        self.engines: dict[int, PlacedActor] = {}
        self.helping: dict[int, list[PlacedActor]] = {}

    def answers(self, numbers: Sequence[int], *, helped: bool = True) -> Iterator[Evaluated]:
        """Yield what each of the models `numbers` answers. All are loaded before one is timed, and all are timed before the rest is
        sent. The engine of a model answers what one that helps it has left."""
        (rows, count, timed), began = self.holdout, time.monotonic()
        for number in numbers:
            if number not in self.engines:
                self.engines[number] = self._start(number)
        self.progress(f"loading {', '.join(self.targets[number].name for number in numbers)}")
        errors = {number: _load(self.engines[number], self.progress, self.targets[number]) for number in numbers}
        if helped and self.ledger:
            self._help([number for number in numbers if not errors[number]], patience=PATIENCE + time.monotonic() - began)
        for number in numbers:
            errors[number] = errors[number] or _error_of(self.engines[number].actor.time.remote(rows, timed), self.targets[number])
        well = [number for number in numbers if not errors[number]]
        parts = {number: self._start_parts(number) for number in well if number in self.helping}
        started = {number: self.engines[number].actor.evaluate.remote(rows, timed) for number in well if number not in parts}
        for number in numbers:
            if number in parts:
                ray.wait(parts[number], num_returns=len(parts[number]))
                started[number] = self.engines[number].actor.evaluate.remote(rows, timed)
            yield failed(count, errors[number]) if errors[number] else _evaluated(started[number], count, self.targets[number])

    def again(self, number: int) -> Evaluated:
        """Return what another engine answers in place of one that died, once all others have answered: these are ended, as one may
        hold the only place."""
        self.stop(*range(len(self.targets)))
        [evaluated] = self.answers([number], helped=False)
        return evaluated

    def stop(self, *numbers: int) -> None:
        """End the engines of the models `numbers`, unless Ray has ended: a call would start a new cluster."""
        for number in numbers:
            running = [*self.helping.pop(number, ()), *([self.engines.pop(number)] if number in self.engines else ())]
            for engine in running if ray.is_initialized() else ():
                engine.stop()

    def _start(self, number: int) -> PlacedActor:
        target = self.targets[number]
        return start(target, self.profile.evaluator_of(target.name), self.ledger)

    def _help(self, numbers: Sequence[int], patience: float) -> None:
        """Start engines that help the teachers among `numbers`, whose own are loaded; end those that are not after `patience`
        seconds."""
        free = free_gib() - RESERVED_GIB
        for number in numbers:
            if count := self._wanted(number, numbers, free):
                free -= count * gib(self.targets[number], self.profile)
                self.helping[number] = [self._start(number) for _ in range(count)]
        ready = {one.actor.ready.remote(): (number, one) for number, engines in self.helping.items() for one in engines}
        loaded = ray.wait([*ready], num_returns=len(ready), timeout=patience)[0] if ready else []
        for reference, (number, engine) in ready.items():
            if reference not in loaded or not _is_well(reference):
                engine.stop()
                self.helping[number].remove(engine)
        self.helping = {number: engines for number, engines in self.helping.items() if engines}
        for number, engines in self.helping.items():
            self.progress(f"{self.targets[number].name}: {1 + len(engines)} engines")

    def _wanted(self, number: int, well: Sequence[int], free: float) -> int:
        """Return how many engines help the model `number`, beside the engines of the models that are `well`, where so many GiB of
        memory are `free`."""
        target = self.targets[number]
        if target.role != "teacher" or target.model.type == "endpoint":  # a server has its own, and what it refuses is not kept
            return 0
        wants = [self.engines[each].want for each in well if not isinstance(self.targets[each].model, Rules | Nearest)]
        wants += [engine.want for engines in self.helping.values() for engine in engines]
        left, each = _batches_left(self.engines[number], self.holdout), gib(target, self.profile)
        room = int(max(free, 0.0) / each) if each else self.profile.evaluator.actors
        return helpers(target, wants, self.profile, self.groups, batches=left, room=room)

    def _start_parts(self, number: int) -> list[ObjectRef[Any]]:
        """Let the engine of a model and those that help it answer a part each."""
        engines, (rows, _, timed) = [self.engines[number], *self.helping[number]], self.holdout
        return [engine.actor.answer.remote(rows, timed, part, len(engines)) for part, engine in enumerate(engines)]


def _batches_left(engine: PlacedActor, holdout: _Holdout) -> int:
    """Return how many batches the engine has still to answer after it is timed; 0 if it has died."""
    try:
        return ray.get(engine.actor.batches_left.remote(holdout.rows, holdout.timed))
    except RayError:
        return 0


def _is_well(reference: ObjectRef[Any]) -> bool:
    try:
        ray.get(reference)
    except RayError:
        return False
    return True


def evaluate_alike(
    targets: Sequence[EvalTarget], rows: Sequence[Row], profile: Profile, *, ledger: EvalLedger | None = None
) -> list[Evaluated]:
    """Return the evaluation of each of `targets` on the HOLDOUT `rows`, none of them timed. They are one model with several
    prompts or ways of decoding: its engine is loaded once. Several calls may run at the same time.

    A model that does not load, or dies each time, yields answers that end as `error`.

    Raises:
        ModelError, StoreUnreachable: as `evaluate`.
    """
    found = _alike(targets, rows, profile, ledger)
    for _ in range(RESTARTS):
        if not any(isinstance(evaluated.error, _Died) for evaluated in found):
            break
        found = _alike(targets, rows, profile, ledger)
    return found


def _alike(targets: Sequence[EvalTarget], rows: Sequence[Row], profile: Profile, ledger: EvalLedger | None) -> list[Evaluated]:
    engine = start(targets[0], profile.evaluator_of(targets[0].name), ledger)
    try:
        if error := _load(engine, log.info, targets[0]):
            return [failed(len(rows), error) for _ in targets]
        shared, found = ray.put(list(rows)), []
        for target in targets:
            engine.actor.become.remote(target)
            found.append(_evaluated(engine.actor.evaluate.remote(shared, 0), len(rows), target))
        return found
    finally:
        engine.stop()


class _Died(str):
    """Why a model could not be evaluated: its actor died, perhaps with its node."""


def start(target: EvalTarget, pool: Pool, ledger: EvalLedger | None) -> PlacedActor:
    """Start the engine of `target` in a place of `pool`, without waiting for it; with `ledger` its answers are kept."""
    want = of_pool("reports", target.name, pool, "evaluator", workers=1)
    return placed_actor.start(Evaluator, target, pool, ledger, pool=pool, want=want, modules=LIBRARIES.get(target.model.type, ()))


def _load(engine: PlacedActor, progress: Progress, target: EvalTarget) -> str:
    """Wait until an engine is loaded; return why it failed, "" if it did not. It is told if no node that runs has room for it, as
    when the one that it needs was lost."""
    ready = engine.actor.ready.remote()
    while not ray.wait([ready], timeout=PATIENCE)[0]:
        [placement] = place([engine.want], session.running_groups())
        if placement.state != "fits":
            progress(f"{placement.who} waits: {placement.note}")
    return _error_of(ready, target)


def _error_of(done: ObjectRef[Any], target: EvalTarget) -> str:
    """Wait for what is `done` with a model; return why it failed, "" if it did not."""
    try:
        ray.get(done)
    except RayError as error:
        return _reason(error, target)
    return ""


def _evaluated(answer: ObjectRef[Evaluated], rows: int, target: EvalTarget) -> Evaluated:
    """Wait for the evaluation of a model on so many rows; all of its answers end as `error` if it failed."""
    try:
        return ray.get(answer)
    except RayError as error:
        return failed(rows, _reason(error, target))


def _reason(error: RayError, target: EvalTarget) -> str:
    """Return the last line of the error: the message, without Ray's traceback and the name of our exception.

    Raises:
        StoreUnreachable: it says that a store cannot be reached. Ray keeps the text of an actor that fails to load, not the cause.
        ModelError: it says what is wrong with a server. A report that counted its answers as wrong would be finished and kept.
    """
    said = dict(SAID.findall(str(error)))
    if "StoreUnreachable" in said:
        raise StoreUnreachable(said["StoreUnreachable"].strip()) from None
    if target.model.type == "endpoint" and "ModelError" in said:
        raise ModelError(said["ModelError"].strip()) from None
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = re.sub(r"^engine\.errors\.\w+: ", "", lines[-1])[:500] if lines else type(error).__name__
    return _Died(text) if isinstance(error, RayActorError) else text
