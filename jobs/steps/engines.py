"""How many engines of each teacher answer, where the profile gives a range and one machine has to hold them all."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from engine.contract.consumers import consumers
from engine.contract.models import LlamaCppModel, VllmModel
from engine.contract.profile import Pool
from engine.inference.room import Engines, free_gib, that_fit, weights_gib
from engine.inference.weights import Weights
from engine.runs.job import JobContext
from engine.teachers.labels import LabelsSpec
from engine.teachers.teacher import TeacherSpec
from jobs.steps.judging import weights

RESERVED_GIB = 1.5  # driver, raylet and what streams between them, beside the object store


def with_engines(context: JobContext, specs: Sequence[TeacherSpec | LabelsSpec]) -> list[TeacherSpec | LabelsSpec]:
    """Return `specs`; on a cluster of this machine a range of actors has become as many as memory has room for.

    They start at once, and together: an actor that is added once there is work for it would load when the others are half done.
    """
    if context.profile.ray.address != "local":
        return list(specs)
    ranged = [spec for spec in specs if isinstance(spec, TeacherSpec) and _is_open(spec)]
    room = free_gib() - RESERVED_GIB - context.profile.ray.object_store_gib - sum(_others(context, specs, ranged))
    wanted = [Engines(spec.client.pool, weights_gib(spec.client.weights)) for spec in ranged]
    counts = {}
    for spec, engines, count in zip(ranged, wanted, that_fit(wanted, room), strict=True):
        counts[spec.name] = count
        if count < engines.pool.actors:
            context.log(
                f"{context.job.name}: {count} of {engines.pool.actors} engines of {spec.name}: each takes about "
                f"{engines.each_gib:.1f} GiB, and {max(room, 0):.1f} are free for them"
            )
    return [_fixed(spec, counts[spec.name]) if spec.name in counts else spec for spec in specs]


def _is_open(spec: TeacherSpec) -> bool:
    pool = spec.client.pool
    return pool.fewest < pool.actors and not pool.gpus and spec.client.has_engine


def _fixed(spec: TeacherSpec | LabelsSpec, count: int) -> TeacherSpec | LabelsSpec:
    assert isinstance(spec, TeacherSpec)
    pool = spec.client.pool.model_copy(update={"actors": count, "min_actors": count})
    return replace(spec, client=replace(spec.client, pool=pool))


def _others(context: JobContext, specs: Sequence[TeacherSpec | LabelsSpec], ranged: Sequence[TeacherSpec]) -> Iterator[float]:
    """Yield the GiB of the engines on CPUs whose number is given: of other teachers, and of models that judge."""
    for spec in specs:
        if isinstance(spec, TeacherSpec) and spec not in ranged and spec.client.has_engine:
            yield _fewest(spec.client.pool, spec.client.weights)
    for consumer in consumers(context.contract):
        if consumer.job == "candidates" and consumer.kind != "teacher" and isinstance(consumer.model, VllmModel | LlamaCppModel):
            yield _fewest(context.profile.judge, weights(context, consumer.model))


def _fewest(pool: Pool, model: Weights | None) -> float:
    return 0.0 if pool.gpus else pool.fewest * Engines(pool, weights_gib(model)).each_gib
