"""Teachers on Ray."""

from collections.abc import Sequence

import pyarrow as pa
from ray.data import Dataset

from engine.contract.profile import Pool
from engine.distributed import stream
from engine.teachers.chained import ChainedTeacher
from engine.teachers.route import Router, Routing, answered, route_to_all
from engine.teachers.teacher import Teacher, TeacherSpec


def answer(prompts: Dataset, specs: Sequence[TeacherSpec], pool: Pool, routing: Routing | None = None) -> Dataset:
    """PROMPT in, ANSWER out; all answers to a prompt are in one block. Without `routing` every teacher answers every prompt.

    Several teachers form a chain and work at the same time on different blocks; `pool` runs the tasks before and behind them.
    """
    if routing is None and len(specs) == 1:
        return stream.apply(prompts, Teacher, specs[0].client.pool, spec=specs[0])
    rows = _route(prompts, specs, pool, routing)
    for spec in specs:
        rows = stream.apply(rows, ChainedTeacher, spec.client.pool, spec=spec)
    return stream.apply(rows, answered, pool)


def _route(prompts: Dataset, specs: Sequence[TeacherSpec], pool: Pool, routing: Routing | None) -> Dataset:
    if routing is None:
        return stream.apply(prompts, route_to_all, pool, to=[spec.section.name for spec in specs])
    if routing.embeds:
        return stream.apply(prompts, Router, routing.pool, routing=routing)
    return stream.apply(prompts, _by_rules, pool, routing=routing)


def _by_rules(prompts: pa.Table, routing: Routing) -> pa.Table:
    return Router(routing)(prompts)
