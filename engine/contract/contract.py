"""The contract: what is ordered. The rules that bind its sections stand here."""

from pydantic import Field, model_validator

from engine.contract.base import Name, Section
from engine.contract.curation import Curation
from engine.contract.evaluation import Evaluation, Gate
from engine.contract.judges import Judges
from engine.contract.prompts import Prompts
from engine.contract.specialist import Specialist
from engine.contract.students import Student
from engine.contract.synthesize import can_lack
from engine.contract.teachers import Teachers


class Contract(Section):
    """The whole order, one section a room."""

    name: Name
    specialist: Specialist
    prompts: Prompts
    teachers: Teachers
    judges: Judges
    curation: Curation = Curation()
    students: tuple[Student, ...] = Field(min_length=1)
    evaluation: Evaluation = Evaluation()
    gate: Gate

    @model_validator(mode="after")
    def sources_name_a_task_unit(self) -> "Contract":
        units = [unit.name for unit in self.specialist.task_units]
        for number, source in enumerate(self.prompts.sources):
            if source.task_unit is None and len(units) > 1:
                raise ValueError(f"prompts.sources.{number}.task_unit: is needed, the specialist has {units}")
            if source.task_unit is not None and source.task_unit not in units:
                raise ValueError(f"prompts.sources.{number}.task_unit: found {source.task_unit!r}, expected one of {units}")
        return self

    @model_validator(mode="after")
    def counter_examples_can_be_proven(self) -> "Contract":
        for number, one in enumerate(self.prompts.synthesize):
            if one.method.type == "counter_example" and not any(can_lack(unit) for unit in self.specialist.task_units):
                raise ValueError(
                    f"prompts.synthesize.{number}: a counter_example needs a task unit with on_missing abstain and output.spans, "
                    "or nothing says that a fact is gone"
                )
        return self

    @model_validator(mode="after")
    def student_names_are_unique(self) -> "Contract":
        names = [student.name for student in self.students]
        if len(set(names)) < len(names):
            raise ValueError(f"students: names must differ, found {names}")
        return self

    @model_validator(mode="after")
    def examined_models_are_told_apart(self) -> "Contract":
        names = [one.name for one in (*self.teachers.models, *self.students, *self.evaluation.baselines)]
        twice = sorted({name for name in names if names.count(name) > 1} | {"champion"} & set(names))
        if twice:
            raise ValueError(f"names of teachers, students and baselines must differ, and none may be `champion`: found {twice}")
        return self

    @model_validator(mode="after")
    def judged_has_a_judge(self) -> "Contract":
        if self.teachers.mode == "judged" and self.judges.rubric is None:
            raise ValueError("judges.rubric: is needed in teachers.mode judged; add one or use mode direct")
        return self

    @model_validator(mode="after")
    def gate_names_a_baseline(self) -> "Contract":
        names = [baseline.name for baseline in self.evaluation.baselines]
        for wanted in self.gate.beats:
            if wanted not in names:
                raise ValueError(f"gate.beats: found {wanted!r}, expected one of evaluation.baselines {names}")
        return self

    def student(self, name: str) -> Student:
        """Return the student called `name`."""
        return next(student for student in self.students if student.name == name)
