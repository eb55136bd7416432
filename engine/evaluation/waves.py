"""Which models answer the holdout at the same time, and with how many engines."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.contract.models import LlamaCppModel, VllmModel
from engine.contract.profile import Profile
from engine.distributed.capacity import Wanted, of_pool
from engine.distributed.placement import Group, fits_together
from engine.evaluation.evaluator import EvalTarget
from engine.inference.room import Engines, weights_gib

FEWEST_BATCHES = 3  # of an engine: the load of one more takes as long as about one batch


def waves(targets: Sequence[EvalTarget], profile: Profile, groups: Sequence[Group]) -> Iterator[list[EvalTarget]]:
    """Yield `targets`, in order, in groups whose engines the nodes that run, `groups`, have room for together, wherever Ray places
    the first of them: all of a wave are awaited, and an actor that does not fit would wait forever.

    So engines of several sizes share a wave only where one node has room for all, or every place is large enough for the largest.
    The nodes count as empty: what other jobs hold is not subtracted, and an engine waits until they give it back.
    """
    wave: list[EvalTarget] = []
    for target in targets:
        wants = [_want(each, profile) for each in (*wave, target)]
        if wave and not (len(wave) < profile.evaluator.actors and fits_together(wants, groups)):
            yield wave
            wave = []
        wave.append(target)
    if wave:
        yield wave


def helpers(
    wave: Sequence[EvalTarget], profile: Profile, groups: Sequence[Group], *, batches: int, free_gib: float
) -> list[int]:  # fmt: skip
    """Return for each model of `wave` how many more engines answer a part of its `batches`, which are those that are not timed.

    A teacher, the slowest model as a rule, gets as many engines as it has in `candidates`, as far as `evaluator.actors`, the nodes
    that run and, where they are this machine's CPUs, its `free_gib` of memory have room. Without them the others wait for it.
    """
    counts, wants = [0] * len(wave), [_want(each, profile) for each in wave]
    free_gib -= sum(_gib(each, profile) for each in wave)
    for at, target in enumerate(wave):
        if target.role != "teacher" or not isinstance(target.model, VllmModel | LlamaCppModel):
            continue
        most = min(profile.teacher_of(target.name).actors, batches // FEWEST_BATCHES) - 1
        while counts[at] < most and len(wants) < profile.evaluator.actors and fits_together([*wants, wants[at]], groups):
            free_gib -= _gib(target, profile)
            if profile.ray.address == "local" and free_gib < 0:
                break
            wants.append(wants[at])
            counts[at] += 1
    return counts


def _want(target: EvalTarget, profile: Profile) -> Wanted:
    return of_pool("reports", target.name, profile.evaluator_of(target.name), "", workers=1)


def _gib(target: EvalTarget, profile: Profile) -> float:
    """Return the memory of an engine on CPUs; 0 of one on GPUs, and of a baseline."""
    pool, folder = profile.evaluator_of(target.name), target.folder
    if pool.gpus or not isinstance(target.model, VllmModel | LlamaCppModel):
        return 0.0
    if isinstance(folder, str):  # a student's, whose weights behind a URL are small beside the engine
        folder = None if "://" in folder else Path(folder)
    return Engines(pool, weights_gib(folder)).each_gib
