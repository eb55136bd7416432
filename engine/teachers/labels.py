"""Answers prompts with their references: labels of people or of a rule take the place of a model."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from engine.rows import ANSWER, PROMPT, content_id, from_rows
from engine.teachers.route import ROUTED


@dataclass(frozen=True)
class LabelsSpec:
    """Configuration of a teacher that gives references; plain picklable values."""

    name: str


def answer(prompts: pa.Table, spec: LabelsSpec) -> pa.Table:
    """PROMPT in, ANSWER out: one complete answer for each prompt with a reference, none for the others.

    A prompt may have a `route`, which its answer copies. No token and no time is counted.
    """
    labelled = prompts.filter(prompts["reference"].is_valid())
    rows = labelled.select([name for name in [*PROMPT.names, "route"] if name in labelled.column_names]).to_pylist()
    said = {
        "route": "", "teacher": spec.name, "sample": 0, "seed": 0, "reasoning": "", "finish_reason": "stop",
        "tokens_in": 0, "tokens_out": 0, "seconds": 0.0, "error": "", "trajectory": [],
    }  # fmt: skip
    return from_rows(
        (
            said | row | {"answer_id": content_id(row["prompt_id"], spec.name, row["reference"]), "answer": row["reference"]}
            for row in rows
        ),
        ANSWER,
    )


def answer_routed(routed: pa.Table, spec: LabelsSpec) -> pa.Table:
    """ROUTED in and out: as `ChainedTeacher`, adds the answers to those prompts that name this teacher, and passes all rows on."""
    mine = pa.array([spec.name in to for to in routed["to"].to_pylist()], pa.bool_())
    answers = answer(routed.filter(pc.and_(mine, pc.is_null(routed["answer_id"]))), spec)
    finished = pa.array([[]] * answers.num_rows, ROUTED.field("to").type)
    return pa.concat_tables([routed, answers.append_column(ROUTED.field("to"), finished)])
