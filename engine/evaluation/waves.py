"""Which models answer the holdout at the same time, and how many engines help one of them."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.contract.profile import Profile
from engine.distributed.capacity import Wanted, of_pool
from engine.distributed.placement import Group, fits_together
from engine.errors import RayleighError
from engine.evaluation.evaluator import EvalTarget
from engine.inference.room import engine_gib

FEWEST_BATCHES = 3  # of an engine: one more takes about as long to load as to answer one of them


def waves(targets: Sequence[EvalTarget], profile: Profile, groups: Sequence[Group]) -> Iterator[list[EvalTarget]]:
    """Yield `targets`, in order, in groups whose engines the nodes that run, `groups`, have room for together, wherever Ray places
    the first of them: all of a wave are awaited, and an actor that does not fit would wait forever.

    So engines of several sizes share a wave only where one node has room for all, or every place is large enough for the largest.
    The nodes count as empty: what other jobs hold is not subtracted, and an engine waits until they give it back.
    """
    wave: list[EvalTarget] = []
    for target in targets:
        wants = [want(each, profile) for each in (*wave, target)]
        if wave and not (len(wave) < profile.evaluator.actors and fits_together(wants, groups)):
            yield wave
            wave = []
        wave.append(target)
    if wave:
        yield wave


def helpers(
    target: EvalTarget, loaded: Sequence[Wanted], profile: Profile, groups: Sequence[Group], *, batches: int, room: int
) -> int:  # fmt: skip
    """Return how many engines help that of `target` to answer its `batches`, beside those that are `loaded`.

    A teacher is the slowest model as a rule, and the wave lasts as long as it does. It gets as many engines as in `candidates`, if
    each has FEWEST_BATCHES, and `evaluator.actors` and the nodes that run have room for them; the memory has for `room` more.
    """
    if target.role != "teacher":
        return 0
    engines = min(profile.teacher_of(target.name).actors, batches // FEWEST_BATCHES)
    most = min(engines - 1, profile.evaluator.actors - len(loaded), room)
    one = want(target, profile)
    return next((count for count in range(most, 0, -1) if fits_together([*loaded, *[one] * count], groups)), 0)


def want(target: EvalTarget, profile: Profile) -> Wanted:
    """Return what the engine of `target` takes."""
    return of_pool("reports", target.name, profile.evaluator_of(target.name), "evaluator", workers=1)


def gib(target: EvalTarget, profile: Profile) -> float:
    """Return the memory of this machine that an engine of `target` takes: 0 where it runs elsewhere, infinite if its size is not
    known."""
    pool, folder = profile.evaluator_of(target.name), target.folder
    if profile.ray.address != "local" or pool.gpus:
        return 0.0
    try:
        weights = folder if not isinstance(folder, str) else None if "://" in folder else Path(folder)
        return engine_gib(pool, weights)
    except (RayleighError, OSError):
        return math.inf
