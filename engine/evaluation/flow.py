"""Runs evaluations on Ray: one actor per model, loaded in parallel, timed one after another, evaluated side by side."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import ray
from ray import ObjectRef
from ray.exceptions import RayActorError, RayError
from ray.util.placement_group import PlacementGroup, remove_placement_group

from engine.contract.profile import Pool, Profile
from engine.distributed import ray_options, session
from engine.distributed.capacity import Wanted, of_pool
from engine.distributed.placement import Group, fits_together, place
from engine.errors import ModelError, StoreUnreachable
from engine.evaluation.answers import EvalLedger
from engine.evaluation.evaluator import EvalTarget, Evaluated, Evaluator, failed
from engine.rows import Row

log = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds without an engine, after which it is looked whether a node has room for it
Progress = Callable[[str], None]
RESTARTS = 2  # of a model whose actor died: with its node, as a rule, which says nothing of the model
LOST = re.compile(r"^engine\.errors\.StoreUnreachable: (.+?)(?:\n\n|\Z)", re.MULTILINE | re.DOTALL)  # in a worker's traceback


def evaluate(
    targets: Sequence[EvalTarget],
    rows: Sequence[Row],
    profile: Profile,
    *,
    timed: int,
    progress: Progress,
    ledger: EvalLedger | None = None,
) -> Iterator[Evaluated]:
    """Yield the evaluation of each of `targets` on the HOLDOUT `rows`, in order; `timed` rows are sent one at a time.

    With `ledger` an answer that an earlier attempt has recorded is not asked for again.

    As many engines as `profile.evaluator` has actors load at the same time, so that their start-up overlaps. Then each is timed
    alone, so that the others do not disturb it; what is left of the prompts they answer side by side. A model whose actor dies is
    loaded again, once the others are done. One that does not load, or dies each time, yields answers that end as `error`.

    Raises:
        ModelError: Ray was stopped.
        StoreUnreachable: a model could not reach the store of its weights or answers: that says nothing of the model.
    """
    if not ray.is_initialized():  # a call would start a new cluster
        raise ModelError("Ray was stopped. Run again: what is finished is kept.")
    shared = ray.put(list(rows))
    for wave in waves(targets, profile, session.running_groups()):
        starts = [partial(_start, target, profile.evaluator_of(target.name), ledger) for target in wave]
        engines = [start() for start in starts]
        progress(f"loading {', '.join(target.name for target in wave)}")
        found = _side_by_side(engines, shared, len(rows), timed, progress)
        for target, start, engine in zip(wave, starts, engines, strict=True):
            evaluated = next(found)
            for _ in range(RESTARTS):
                if not isinstance(evaluated.error, _Died):
                    break
                found = iter([*found])  # waits for the others: it is timed alone
                engine, evaluated = _again(engine, start, shared, len(rows), timed, progress)
            if evaluated.error:
                log.error("%s cannot be evaluated: %s", target.name, evaluated.error)
            answered = sum(completion.finish_reason == "stop" for completion in evaluated.completions)
            progress(f"{target.name}: {answered} of {len(rows)} answered")
            engine.stop()
            yield evaluated


def _side_by_side(
    engines: Sequence["_Started"], shared: ObjectRef[list[Row]], rows: int, timed: int, progress: Progress
) -> Iterator[Evaluated]:
    """Yield what each of `engines` answers. All are loaded before one is timed, and all are timed before the rest is sent."""
    errors = [_load(engine, progress) for engine in engines]
    errors = [error or _error_of(engine.actor.time.remote(shared, timed)) for engine, error in zip(engines, errors, strict=True)]
    started = [
        None if error else engine.actor.evaluate.remote(shared, timed) for engine, error in zip(engines, errors, strict=True)
    ]
    for answer, error in zip(started, errors, strict=True):
        yield _evaluated(answer, rows) if answer else failed(rows, error)


def _again(
    engine: "_Started", start: "Callable[[], _Started]", shared: ObjectRef[list[Row]], rows: int, timed: int, progress: Progress
) -> "tuple[_Started, Evaluated]":  # fmt: skip
    """Return another engine in place of one that died, and what it answers."""
    engine.stop()
    engine = start()
    [evaluated] = _side_by_side([engine], shared, rows, timed, progress)
    return engine, evaluated


def evaluate_alike(
    targets: Sequence[EvalTarget], rows: Sequence[Row], profile: Profile, *, ledger: EvalLedger | None = None
) -> list[Evaluated]:
    """Return the evaluation of each of `targets` on the HOLDOUT `rows`, none of them timed. They are one model with several
    prompts or ways of decoding: its engine is loaded once. Several calls may run at the same time.

    A model that does not load, or dies each time, yields answers that end as `error`.

    Raises:
        StoreUnreachable: as `evaluate`.
    """
    found = _alike(targets, rows, profile, ledger)
    for _ in range(RESTARTS):
        if not any(isinstance(evaluated.error, _Died) for evaluated in found):
            break
        found = _alike(targets, rows, profile, ledger)
    return found


def _alike(targets: Sequence[EvalTarget], rows: Sequence[Row], profile: Profile, ledger: EvalLedger | None) -> list[Evaluated]:
    engine = _start(targets[0], profile.evaluator_of(targets[0].name), ledger)
    try:
        if error := _load(engine, log.info):
            return [failed(len(rows), error) for _ in targets]
        shared, found = ray.put(list(rows)), []
        for target in targets:
            engine.actor.become.remote(target)
            found.append(_evaluated(engine.actor.evaluate.remote(shared, 0), len(rows)))
        return found
    finally:
        engine.stop()


def waves(targets: Sequence[EvalTarget], profile: Profile, groups: Sequence[Group]) -> Iterator[list[EvalTarget]]:
    """Yield `targets`, in order, in groups whose engines the nodes that run, `groups`, have room for together, wherever Ray places
    the first of them: all of a wave are awaited, and an actor that does not fit would wait forever.

    So engines of several sizes share a wave only where one node has room for all, or every place is large enough for the largest.
    The nodes count as empty: what other jobs hold is not subtracted, and an engine waits until they give it back.
    """
    wave: list[EvalTarget] = []
    for target in targets:
        wants = [of_pool("reports", each.name, profile.evaluator_of(each.name), "", workers=1) for each in (*wave, target)]
        if wave and not (len(wave) < profile.evaluator.actors and fits_together(wants, groups)):
            yield wave
            wave = []
        wave.append(target)
    if wave:
        yield wave


class _Died(str):
    """Why a model could not be evaluated: its actor died, perhaps with its node."""


class _Started(NamedTuple):
    """An evaluator's actor, and the placement group of its engine's workers."""

    actor: Any  # a handle of an `Evaluator`, whose methods Ray makes at run time
    group: PlacementGroup | None
    want: Wanted

    def stop(self) -> None:
        """End the actor and free what it holds."""
        ray.kill(self.actor)
        if self.group:
            remove_placement_group(self.group)


def _start(target: EvalTarget, pool: Pool, ledger: EvalLedger | None) -> _Started:
    options, group = ray_options.actor(pool)
    want = of_pool("reports", target.name, pool, "evaluator", workers=1)
    return _Started(ray.remote(Evaluator).options(**options).remote(target, pool, ledger), group, want)


def _load(engine: _Started, progress: Progress) -> str:
    """Wait until an engine is loaded; return why it failed, "" if it did not. It is told if no node that runs has room for it, as
    when the one that it needs was lost."""
    ready = engine.actor.ready.remote()
    while not ray.wait([ready], timeout=PATIENCE)[0]:
        [placement] = place([engine.want], session.running_groups())
        if placement.state != "fits":
            progress(f"{placement.who} waits: {placement.note}")
    return _error_of(ready)


def _error_of(done: ObjectRef[Any]) -> str:
    """Wait for `done`; return why it failed, "" if it did not."""
    try:
        ray.get(done)
    except RayError as error:
        return _reason(error)
    return ""


def _evaluated(answer: ObjectRef[Evaluated], rows: int) -> Evaluated:
    try:
        return ray.get(answer)
    except RayError as error:
        return failed(rows, _reason(error))


def _reason(error: RayError) -> str:
    """Return the last line of the error: the message, without Ray's traceback and the name of our exception.

    Raises:
        StoreUnreachable: it says that a store cannot be reached. Ray keeps the text of an actor that fails to load, not the cause.
    """
    if lost := LOST.search(str(error)):
        raise StoreUnreachable(lost[1].strip()) from None
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = re.sub(r"^engine\.errors\.\w+: ", "", lines[-1])[:500] if lines else type(error).__name__
    return _Died(text) if isinstance(error, RayActorError) else text
