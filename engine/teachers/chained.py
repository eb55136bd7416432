"""Several teachers at one prompt: rows are carried from one to the next, so that all answers to a prompt meet in one block."""

import pyarrow as pa

from engine.teachers.route import CARRIED
from engine.teachers.teacher import Teacher, TeacherSpec


class ChainedTeacher:
    """CARRIED in and out: a teacher adds its answers to the prompts that name it, and lets the others pass.

    Its engine sees those prompts of a block that are for it: a teacher to which few are sent works in thin batches. Larger blocks
    (`teacher.batch` in the profile) fill them.
    """

    def __init__(self, desk: TeacherSpec) -> None:
        self.teacher = Teacher(desk)
        self.name = desk.section.name

    def __call__(self, carried: pa.Table) -> pa.Table:
        mine = pa.array([self.name in to for to in carried["to"].to_pylist()], pa.bool_())
        said = self.teacher(carried.filter(mine))
        finished = pa.array([[]] * said.num_rows, CARRIED.field("to").type)
        return pa.concat_tables([carried, said.append_column(CARRIED.field("to"), finished)])
