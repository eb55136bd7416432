"""Room 6's door to Ray: one actor a model, loaded side by side, examined one after another."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from engine.contract.profile import Pool
from engine.distributed import ray_options
from engine.evaluation.examine import EvalTarget, Examined, Examiner, failed

log = logging.getLogger(__name__)


def examine(
    targets: Sequence[EvalTarget], rows: Sequence[Mapping[str, Any]], pool: Pool, *, timed: int, progress: Callable[[str], None]
) -> Iterator[Examined]:
    """Yield what each of `subjects` makes of the HOLDOUT `rows`, in order.

    As many engines as the pool has actors load at the same time, so that their start-up overlaps; while one is asked the others
    rest, so that its times are its own. A model that does not load or dies yields answers that end as `error`.
    """
    together, shared = _room_for(pool), ray.put(list(rows))
    for start in range(0, len(targets), together):
        wave = targets[start : start + together]
        actors = [_actor(pool).remote(target, pool) for target in wave]
        progress(f"loading {', '.join(target.name for target in wave)}")
        troubles = [_trouble(actor) for actor in actors]  # waits for all of the wave: nothing loads while one is timed
        for target, actor, trouble in zip(wave, actors, troubles, strict=True):
            found = failed(len(rows), trouble) if trouble else _ask(actor, shared, len(rows), timed)
            if found.error:
                log.error("%s cannot be examined: %s", target.name, found.error)
            progress(
                f"{target.name}: {sum(answer.finish_reason == 'stop' for answer in found.completions)} of {len(rows)} answered"
            )
            ray.kill(actor)
            yield found


def _actor(pool: Pool) -> Any:
    return ray.remote(Examiner).options(**ray_options.resources(pool))


def _room_for(pool: Pool) -> int:
    """Engines that fit at the same time; an actor that finds no place would wait for ever."""
    have = ray.cluster_resources()
    wanted = {"CPU": pool.cpus, "GPU": pool.gpus}
    return max(1, min(pool.actors, *(int(have.get(kind, 0) // amount) for kind, amount in wanted.items() if amount)))


def _trouble(actor: Any) -> str:
    try:
        ray.get(actor.ready.remote())
    except RayError as error:
        return _reason(error)
    return ""


def _ask(actor: Any, shared: Any, rows: int, timed: int) -> Examined:
    try:
        return ray.get(actor.examine.remote(shared, timed))
    except RayError as error:
        return failed(rows, _reason(error))


def _reason(error: RayError) -> str:
    """The last line of what went wrong: the message itself, without Ray's account of where and our exception's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^engine\.errors\.\w+: ", "", lines[-1])[:500] if lines else type(error).__name__
