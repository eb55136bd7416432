"""How many engines of a teacher answer, where the profile gives a range and one machine has to hold them all."""

import logging
from collections.abc import Iterator

from engine.contract.consumers import consumers
from engine.contract.models import LlamaCppModel, Model, TrainedModel, VllmModel
from engine.contract.profile import Pool
from engine.inference.room import Engines, free_gib, that_fit, weights_gib
from engine.inference.weights import Weights
from engine.runs.job import JobContext
from jobs.steps.models import found

log = logging.getLogger(__name__)

RESERVED_GIB = 1.5  # driver, raylet and what streams between them, beside the object store


def teacher_pool(context: JobContext, payee: str, model: Model, weights: Weights | None) -> Pool:
    """Return the pool of the teacher `payee`, whose files are `weights`. On the CPUs of this machine a range of actors has become
    as many as memory has room for, beside the other engines of the job; the fewest if they only ask a server.

    They start at once, and together: an actor that is added once there is work for it would load when the others are half done.
    """
    pool = context.profile.teacher_of(payee)
    if context.profile.ray.address != "local" or pool.gpus or pool.fewest == pool.actors:
        return pool
    if not isinstance(model, VllmModel | LlamaCppModel):
        return _fixed(pool, pool.fewest)
    others = list(_beside(context, payee)) if context.job.name == "candidates" else []
    wanted = [Engines(pool, weights_gib(weights)), *others]
    room = free_gib() - RESERVED_GIB - context.profile.ray.object_store_gib
    count, *_ = that_fit(wanted, room)
    if count < pool.actors:
        log.warning("%s: %d of %d engines: each takes %.1f GiB, free are %.1f", payee, count, pool.actors, wanted[0].each_gib, room)
    return _fixed(pool, count)


def _fixed(pool: Pool, count: int) -> Pool:
    return pool.model_copy(update={"actors": count, "min_actors": count})


def _beside(context: JobContext, payee: str) -> Iterator[Engines]:
    """Yield the other engines on CPUs that answer and judge while the teacher `payee` answers."""
    for consumer in consumers(context.contract):
        model, is_teacher = consumer.model, consumer.kind == "teacher"
        if consumer.job != "candidates" or (is_teacher and consumer.payee == payee):
            continue
        pool = context.profile.teacher_of(consumer.payee) if is_teacher else context.profile.judge
        if isinstance(model, TrainedModel):
            yield Engines(pool, 0.0)  # a student or a release: small beside its engine
        elif isinstance(model, VllmModel | LlamaCppModel) and not pool.gpus:
            yield Engines(pool, weights_gib(found(context, model.path)))
