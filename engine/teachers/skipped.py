"""Answers that no teacher was asked for, counted by reason: with them, what could be asked and what was said agree."""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.teachers import Teachers
from engine.teachers.route import NOBODY, reached

COLUMNS = ["prompt_id", "route", "teacher", "sample"]


def skipped(pieces: Iterable[pa.Table], section: Teachers) -> dict[str, int]:
    """Return how many of the n answers of every teacher to every prompt were not asked for. A lost one is under no reason.

    `elsewhere`: the column `route` leads to other teachers, or to none, which leaves one row by nobody. `spared`: the samples after
    the first of a teacher, as enough were verified. `pieces` are answers with COLUMNS, each with all answers to its prompts.
    """
    is_thrifty = any(teacher.sampling.enough for teacher in section.models)
    if not section.routes and not is_thrifty:
        return {}
    most = {teacher.name: teacher.sampling.n for teacher in section.models}
    leads = {"": tuple(most), NOBODY: ("",)} | reached(section.routes or ())
    most_of_all, most[""] = sum(most.values()), 1
    elsewhere = spared = 0
    for piece in pieces:
        for route in piece.group_by(["prompt_id", "route"]).aggregate([])["route"].to_pylist():
            elsewhere += most_of_all - sum(most[teacher] for teacher in set(leads[route]))
        first = piece.filter(pc.equal(piece["sample"], 0))
        spared += sum(most[teacher] for teacher in first["teacher"].to_pylist()) - piece.num_rows
    return ({"elsewhere": elsewhere} if section.routes else {}) | ({"spared": spared} if is_thrifty else {})
