"""Teachers on Ray."""

from collections.abc import Sequence

import pyarrow as pa

from engine.contract.profile import Pool
from engine.distributed import stream
from engine.distributed.environment import importing
from engine.distributed.rows import Rows
from engine.teachers import labels
from engine.teachers.chained import ChainedTeacher
from engine.teachers.labels import LabelsSpec
from engine.teachers.route import Router, Routing, answered, route_to_all
from engine.teachers.teacher import Teacher, TeacherSpec


def answer(prompts: Rows, specs: Sequence[TeacherSpec | LabelsSpec], pool: Pool, routing: Routing | None = None) -> Rows:
    """PROMPT in, ANSWER out; all answers to a prompt are in one block. Without `routing` every teacher answers every prompt.

    Several teachers form a chain and work at the same time on different blocks; `pool` runs the tasks before and behind them, and
    those that copy references.
    """
    if routing is None and len(specs) == 1:
        return _apply(prompts, specs[0], pool, Teacher, labels.answer)
    rows = _route(prompts, specs, pool, routing)
    for spec in specs:
        rows = _apply(rows, spec, pool, ChainedTeacher, labels.answer_routed)
    return stream.apply(rows, answered, pool)


def reading_pool(specs: Sequence[TeacherSpec | LabelsSpec], pool: Pool, routing: Routing | None = None) -> Pool:
    """Return the pool on which the prompts of `answer` are read, `pool` or that of the only teacher.

    An actor that loads no engine reads its blocks itself: Ray Data makes one step of two on equal pools.
    """
    first = specs[0]
    if routing is not None or len(specs) > 1 or isinstance(first, LabelsSpec) or first.client.has_engine:
        return pool
    own = first.client.pool
    return pool if own.gpus or own.pipeline > 1 else own  # tasks must not wait for GPUs


def _apply(rows: Rows, spec: TeacherSpec | LabelsSpec, pool: Pool, teacher: type, copy: stream.Op) -> Rows:
    """Run the actors `teacher` of a model over `rows`; for labels, which have no model, tasks that run `copy`."""
    if isinstance(spec, LabelsSpec):
        return stream.apply(rows, copy, pool, spec=spec)
    client = spec.client
    return stream.apply(rows, teacher, client.pool, engine=client.has_engine, variables=importing(client.libraries), spec=spec)


def _route(prompts: Rows, specs: Sequence[TeacherSpec | LabelsSpec], pool: Pool, routing: Routing | None) -> Rows:
    if routing is None:
        return stream.apply(prompts, route_to_all, pool, to=[spec.name for spec in specs])
    if routing.embeds:
        return stream.apply(prompts, Router, routing.pool, routing=routing)
    return stream.apply(prompts, _by_rules, pool, routing=routing)


def _by_rules(prompts: pa.Table, routing: Routing) -> pa.Table:
    return Router(routing)(prompts)
