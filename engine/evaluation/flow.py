"""Runs evaluations on Ray: one actor per model, loaded in parallel, evaluated one after another."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import ray
from ray.actor import ActorProxy
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, remove_placement_group

from engine.contract.profile import Pool, Profile
from engine.distributed import ray_options
from engine.errors import ModelError
from engine.evaluation.answers import EvalLedger
from engine.evaluation.evaluator import EvalTarget, Evaluated, Evaluator, failed
from engine.rows import Row

log = logging.getLogger(__name__)


def evaluate(
    targets: Sequence[EvalTarget],
    rows: Sequence[Row],
    profile: Profile,
    *,
    timed: int,
    progress: Callable[[str], None],
    ledger: EvalLedger | None = None,
) -> Iterator[Evaluated]:
    """Yield the evaluation of each of `targets` on the HOLDOUT `rows`, in order; `timed` rows are sent one at a time.

    With `ledger` an answer that an earlier attempt has recorded is not asked for again.

    As many engines as `profile.evaluator` has actors load at the same time, so that their start-up overlaps. Only one is evaluated
    at a time, so that the others do not disturb its timing. A model that does not load or dies yields answers that end as `error`.

    Raises:
        ModelError: Ray was stopped.
    """
    if not ray.is_initialized():  # a call would start a new cluster
        raise ModelError("Ray was stopped. Run again: what is finished is kept.")
    shared = ray.put(list(rows))
    for wave in waves(targets, profile, ray.cluster_resources()):
        engines = [_start(target, profile.evaluator_of(target.name), ledger) for target in wave]
        progress(f"loading {', '.join(target.name for target in wave)}")
        errors = [_load_error(engine.actor) for engine in engines]  # of the whole wave: nothing loads while a model is timed
        for target, engine, error in zip(wave, engines, errors, strict=True):
            evaluated = failed(len(rows), error) if error else _evaluate(engine.actor, shared, len(rows), timed)
            if evaluated.error:
                log.error("%s cannot be evaluated: %s", target.name, evaluated.error)
            answered = sum(completion.finish_reason == "stop" for completion in evaluated.completions)
            progress(f"{target.name}: {answered} of {len(rows)} answered")
            engine.stop()
            yield evaluated


def evaluate_alike(
    targets: Sequence[EvalTarget], rows: Sequence[Row], profile: Profile, *, ledger: EvalLedger | None = None
) -> list[Evaluated]:
    """Return the evaluation of each of `targets` on the HOLDOUT `rows`, none of them timed. They are one model with several
    prompts or ways of decoding: its engine is loaded once. Several calls may run at the same time.

    A model that does not load or dies yields answers that end as `error`.
    """
    engine = _start(targets[0], profile.evaluator_of(targets[0].name), ledger)
    try:
        if error := _load_error(engine.actor):
            return [failed(len(rows), error) for _ in targets]
        shared, found = ray.put(list(rows)), []
        for target in targets:
            engine.actor.become.remote(target)  # type: ignore[attr-defined]
            found.append(_evaluate(engine.actor, shared, len(rows), 0))
        return found
    finally:
        engine.stop()


def waves(targets: Sequence[EvalTarget], profile: Profile, available: Mapping[str, float]) -> Iterator[list[EvalTarget]]:
    """Yield `targets` in groups whose engines fit into `available` together; an actor that does not fit would wait forever."""
    wave: list[EvalTarget] = []
    for target in targets:
        pools = [profile.evaluator_of(each.name) for each in (*wave, target)]
        needed = {"CPU": sum(pool.cpus for pool in pools), "GPU": sum(pool.gpus * pool.pipeline for pool in pools)}
        fits = all(amount <= available.get(kind, 0) for kind, amount in needed.items())
        if wave and not (fits and len(wave) < profile.evaluator.actors):
            yield wave
            wave = []
        wave.append(target)
    if wave:
        yield wave


class _Started(NamedTuple):
    """An evaluator's actor, and the placement group of its engine's workers."""

    actor: ActorProxy[Evaluator]
    group: PlacementGroup | None

    def stop(self) -> None:
        """End the actor and free what it holds."""
        ray.kill(self.actor)  # type: ignore[arg-type]  # Ray annotates kill with ActorHandle, but remote() returns ActorProxy
        if self.group:
            remove_placement_group(self.group)


def _start(target: EvalTarget, pool: Pool, ledger: EvalLedger | None) -> _Started:
    options, group = ray_options.actor(pool)
    return _Started(ray.remote(Evaluator).options(**options).remote(target, pool, ledger), group)


def _load_error(actor: ActorProxy[Evaluator]) -> str:
    try:
        ray.get(actor.ready.remote())  # type: ignore[attr-defined]
    except RayError as error:
        return _reason(error)
    return ""


def _evaluate(actor: ActorProxy[Evaluator], shared: object, rows: int, timed: int) -> Evaluated:
    try:
        return ray.get(actor.evaluate.remote(shared, timed))  # type: ignore[arg-type]  # Ray resolves the reference
    except RayError as error:
        return failed(rows, _reason(error))


def _reason(error: RayError) -> str:
    """Return the last line of the error: the message, without Ray's traceback and the name of our exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^engine\.errors\.\w+: ", "", lines[-1])[:500] if lines else type(error).__name__
