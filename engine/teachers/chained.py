"""Several teachers for one prompt: rows pass from one teacher to the next, so that all answers to a prompt end in one block."""

import pyarrow as pa

from engine.teachers.route import ROUTED
from engine.teachers.teacher import Teacher, TeacherSpec


class ChainedTeacher:
    """ROUTED in and out: adds this teacher's answers to the prompts that name it, and passes all rows on.

    Its engine sees only those prompts of a block that are routed to it, so a teacher with few prompts works in small batches.
    Larger blocks (`teacher.batch` in the profile) fill them.
    """

    def __init__(self, spec: TeacherSpec) -> None:
        self.teacher = Teacher(spec)
        self.name = spec.section.name

    def __call__(self, routed: pa.Table) -> pa.Table:
        mine = pa.array([self.name in to for to in routed["to"].to_pylist()], pa.bool_())
        answers = self.teacher(routed.filter(mine))
        finished = pa.array([[]] * answers.num_rows, ROUTED.field("to").type)
        return pa.concat_tables([routed, answers.append_column(ROUTED.field("to"), finished)])
