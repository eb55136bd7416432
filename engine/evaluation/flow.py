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
from engine.distributed.placement import place
from engine.errors import ModelError, StoreUnreachable
from engine.evaluation.answers import EvalLedger
from engine.evaluation.evaluator import EvalTarget, Evaluated, Evaluator, failed, further_batches
from engine.evaluation.waves import helpers, waves
from engine.inference.room import free_gib
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
    alone, so that the others do not disturb it; what is left of the prompts they answer side by side, a teacher with further
    engines (`helpers`), which write into the ledger. A model whose actor dies is loaded again, once the others are done. One that
    does not load, or dies each time, yields answers that end as `error`.

    Raises:
        ModelError: Ray was stopped.
        StoreUnreachable: a model could not reach the store of its weights or answers: that says nothing of the model.
    """
    if not ray.is_initialized():  # a call would start a new cluster
        raise ModelError("Ray was stopped. Run again: what is finished is kept.")
    shared, groups = ray.put(list(rows)), session.running_groups()
    for wave in waves(targets, profile, groups):
        starts = [partial(_start, target, profile.evaluator_of(target.name), ledger) for target in wave]
        batches = further_batches(len(rows), timed, profile.evaluator.batch) if ledger else 0
        counts = helpers(wave, profile, groups, batches=batches, free_gib=free_gib())
        engines = [start() for start in starts]
        helping = [[start() for _ in range(count)] for start, count in zip(starts, counts, strict=True)]
        progress(f"loading {', '.join(map(_loading, wave, counts))}")
        found = _side_by_side(engines, helping, shared, len(rows), timed, progress)
        for target, start, engine, others in zip(wave, starts, engines, helping, strict=True):
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
            for each in (engine, *others):
                each.stop()
            yield evaluated


def _side_by_side(
    engines: Sequence["_Started"],
    helping: Sequence[Sequence["_Started"]],
    shared: ObjectRef[list[Row]],
    rows: int,
    timed: int,
    progress: Progress,
) -> Iterator[Evaluated]:
    """Yield what each of `engines` answers. All are loaded before one is timed, and all are timed before the rest is sent, parts of
    which the engines `helping` one answer. One of these that fails leaves its part to the model's own engine."""
    errors = [_load(engine, progress) for engine in engines]
    loaded = [[each for each in others if _is_loaded(each)] for others in helping]
    errors = [error or _error_of(engine.actor.time.remote(shared, timed)) for engine, error in zip(engines, errors, strict=True)]
    parts = [
        [] if error else _parts(engine, others, shared, timed)
        for engine, others, error in zip(engines, loaded, errors, strict=True)
    ]
    started = [
        None if error or waits else engine.actor.evaluate.remote(shared, timed)
        for engine, error, waits in zip(engines, errors, parts, strict=True)
    ]
    for engine, answer, error, waits in zip(engines, started, errors, parts, strict=True):
        if waits:
            ray.wait(waits, num_returns=len(waits))
            answer = engine.actor.evaluate.remote(shared, timed)
        yield _evaluated(answer, rows) if answer else failed(rows, error)


def _is_loaded(helper: "_Started") -> bool:
    """Return whether an engine that helps is loaded by now, or soon; else it is ended: nothing waits for it."""
    ready = helper.actor.ready.remote()
    is_loaded = bool(ray.wait([ready], timeout=PATIENCE)[0]) and not _error_of(ready)
    if not is_loaded:
        helper.stop()
    return is_loaded


def _parts(engine: "_Started", others: Sequence["_Started"], shared: ObjectRef[list[Row]], timed: int) -> list[ObjectRef[None]]:
    """Let `engine` and those that help it answer a part each; none without any that helps."""
    each = [engine, *others] if others else []
    return [one.actor.answer.remote(shared, timed, at, len(each)) for at, one in enumerate(each)]


def _loading(target: EvalTarget, more: int) -> str:
    return f"{target.name} ({more + 1} engines)" if more else target.name


def _again(
    engine: "_Started", start: "Callable[[], _Started]", shared: ObjectRef[list[Row]], rows: int, timed: int, progress: Progress
) -> "tuple[_Started, Evaluated]":  # fmt: skip
    """Return another engine in place of one that died, and what it answers."""
    engine.stop()
    engine = start()
    [evaluated] = _side_by_side([engine], [()], shared, rows, timed, progress)
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
