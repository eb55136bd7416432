"""Runs evaluations on Ray: one actor per model, loaded in parallel, evaluated one after another."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence

import ray
from ray.actor import ActorProxy
from ray.exceptions import RayError

from engine.contract.profile import Pool
from engine.distributed import ray_options
from engine.errors import ModelError
from engine.evaluation.answers import EvalLedger
from engine.evaluation.evaluator import EvalTarget, Evaluated, Evaluator, failed
from engine.rows import Row

log = logging.getLogger(__name__)


def evaluate(
    targets: Sequence[EvalTarget],
    rows: Sequence[Row],
    pool: Pool,
    *,
    timed: int,
    progress: Callable[[str], None],
    ledger: EvalLedger | None = None,
) -> Iterator[Evaluated]:
    """Yield the evaluation of each of `targets` on the HOLDOUT `rows`, in order; `timed` rows are sent one at a time.

    With `ledger` an answer that an earlier attempt has recorded is not asked for again.

    As many engines as the pool has actors load at the same time, so that their start-up overlaps. Only one is evaluated at a time,
    so that the others do not disturb its timing. A model that does not load or dies yields answers that end as `error`.

    Raises:
        ModelError: Ray was stopped.
    """
    if not ray.is_initialized():  # a call would start a new cluster
        raise ModelError("Ray was stopped. Run again: what is finished is kept.")
    at_once, shared = _engines_at_once(pool), ray.put(list(rows))
    for start in range(0, len(targets), at_once):
        wave = targets[start : start + at_once]
        actors = [_actor(target, pool, ledger) for target in wave]
        progress(f"loading {', '.join(target.name for target in wave)}")
        errors = [_load_error(actor) for actor in actors]  # waits for the whole wave: nothing loads while a model is timed
        for target, actor, error in zip(wave, actors, errors, strict=True):
            evaluated = failed(len(rows), error) if error else _evaluate(actor, shared, len(rows), timed)
            if evaluated.error:
                log.error("%s cannot be evaluated: %s", target.name, evaluated.error)
            answered = sum(completion.finish_reason == "stop" for completion in evaluated.completions)
            progress(f"{target.name}: {answered} of {len(rows)} answered")
            ray.kill(actor)  # type: ignore[arg-type]  # Ray annotates kill with ActorHandle, but remote() returns ActorProxy
            yield evaluated


def _actor(target: EvalTarget, pool: Pool, ledger: EvalLedger | None) -> ActorProxy[Evaluator]:
    return ray.remote(Evaluator).options(**ray_options.resources(pool)).remote(target, pool, ledger)


def _engines_at_once(pool: Pool) -> int:
    """Return how many engines fit the cluster at once; an actor that does not fit would wait forever."""
    available = ray.cluster_resources()
    needed = {"CPU": pool.cpus, "GPU": pool.gpus}
    return max(1, min(pool.actors, *(int(available.get(kind, 0) // amount) for kind, amount in needed.items() if amount)))


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
