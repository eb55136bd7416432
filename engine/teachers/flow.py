"""Room 2's door to Ray."""

from collections.abc import Sequence

import pyarrow as pa
from ray.data import Dataset

from engine.contract.profile import Pool
from engine.distributed import stream
from engine.teachers.chained import ChainedTeacher
from engine.teachers.route import Router, Routing, answered, ask_all
from engine.teachers.teacher import Teacher, TeacherSpec


def answer(prompts: Dataset, desks: Sequence[TeacherSpec], pool: Pool, routing: Routing | None = None) -> Dataset:
    """PROMPT in, ANSWER out; all answers to a prompt are in one block. Without `routing` every teacher answers every prompt.

    Several teachers stand in a chain, at work at the same time on different blocks; tasks of `pool` hand over between them.
    """
    if routing is None and len(desks) == 1:
        return stream.apply(prompts, Teacher, desks[0].pool, desk=desks[0])
    rows = _route(prompts, desks, pool, routing)
    for desk in desks:
        rows = stream.apply(rows, ChainedTeacher, desk.pool, desk=desk)
    return stream.apply(rows, answered, pool)


def _route(prompts: Dataset, desks: Sequence[TeacherSpec], pool: Pool, routing: Routing | None) -> Dataset:
    if routing is None:
        return stream.apply(prompts, ask_all, pool, to=[desk.section.name for desk in desks])
    if routing.embeds:
        return stream.apply(prompts, Router, routing.pool, routing=routing)
    return stream.apply(prompts, _by_rules, pool, routing=routing)


def _by_rules(prompts: pa.Table, routing: Routing) -> pa.Table:
    return Router(routing)(prompts)
