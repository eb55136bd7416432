"""The contract: what is ordered. The rules that bind its sections stand here."""

from pydantic import Field, model_validator

from engine.contract.base import Name, Section
from engine.contract.budget import Budget
from engine.contract.curation import ORDERED_BY, Curation
from engine.contract.evaluation import Evaluation, Gate
from engine.contract.judges import Judges
from engine.contract.prompts import Prompts
from engine.contract.specialist import Specialist
from engine.contract.students import Student
from engine.contract.synthesize import supports_counter_examples
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
    budget: Budget = Budget()

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
            if one.method.type == "counter_example" and not any(
                supports_counter_examples(unit) for unit in self.specialist.task_units
            ):
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
    def tiers_are_there_to_be_learnt_by(self) -> "Contract":
        for number, student in enumerate(self.students):
            if student.curriculum == "confidence_tier" and not self.judges.pools.tiers:
                raise ValueError(f"students.{number}.curriculum: found tier, but judges.pools.tiers is empty; give it confidences")
        return self

    @model_validator(mode="after")
    def judged_has_a_judge(self) -> "Contract":
        if self.teachers.mode in ("judged", "competition") and not self.judges.rubrics:
            raise ValueError(f"judges.rubrics: is needed in teachers.mode {self.teachers.mode}; add one or use mode direct")
        return self

    @model_validator(mode="after")
    def questions_of_judges_name_task_units(self) -> "Contract":
        units = [unit.name for unit in self.specialist.task_units]
        asked = {f"judges.rubrics.{number}": one.by_task_unit for number, one in enumerate(self.judges.rubrics)}
        if self.judges.ranking:
            asked["judges.ranking"] = self.judges.ranking.by_task_unit
        for place, questions in asked.items():
            if unknown := sorted(set(questions) - set(units)):
                raise ValueError(f"{place}.by_task_unit: found {unknown}, expected some of {units}")
        return self

    @model_validator(mode="after")
    def routes_name_task_units(self) -> "Contract":
        units = [unit.name for unit in self.specialist.task_units]
        for number, route in enumerate(self.teachers.routes or ()):
            if unknown := [name for name in (route.when.task_unit if route.when else ()) if name not in units]:
                raise ValueError(f"teachers.routes.{number}.when.task_unit: found {unknown}, expected some of {units}")
        return self

    @model_validator(mode="after")
    def trajectories_are_made_where_they_are_used(self) -> "Contract":
        places = [
            f"specialist.task_units.{unit.name}.supervise" for unit in self.specialist.task_units if unit.supervise == "tools"
        ]
        places += ["judges.checks" for check in self.judges.checks if check.type == "tools"]
        if places and self.teachers.mode != "tools":
            raise ValueError(f"{places[0]}: found tools, but in teachers.mode {self.teachers.mode} none is called; use mode tools")
        return self

    @model_validator(mode="after")
    def checks_name_task_units(self) -> "Contract":
        units = [unit.name for unit in self.specialist.task_units]
        for room, checks in (("judges", self.judges.checks), ("evaluation", self.evaluation.checks)):
            for number, check in enumerate(checks):
                if unknown := [name for name in check.task_units if name not in units]:
                    raise ValueError(f"{room}.checks.{number}.task_units: found {unknown}, expected some of {units}")
        return self

    @model_validator(mode="after")
    def checks_find_their_references(self) -> "Contract":
        """The holdout has references in any case."""
        wanting = {f"judges.checks.{number}": check for number, check in enumerate(self.judges.checks) if check.wants_references}
        for place, check in wanting.items():
            looked_at = [one for one in self.prompts.sources if not check.task_units or one.task_unit in (None, *check.task_units)]
            lacking = [one.path for one in looked_at if "reference" not in one.columns]
            if lacking := [*lacking, *(one.title for one in self.prompts.synthesize)]:
                raise ValueError(
                    f"{place}: {check.title} compares with each prompt's own reference, and prompts of {lacking[0]} have none; map "
                    "`reference` in the source's columns, or give the reference a `value` or `pattern`, or write `missing: pass`"
                )
        return self

    @model_validator(mode="after")
    def orders_have_their_signals(self) -> "Contract":
        asked = self.judges.signals.asked if self.judges.signals else ()
        wanted = ORDERED_BY.get(self.curation.pick.order, ())
        if missing := [name for name in wanted if name not in asked]:
            raise ValueError(
                f"curation.pick.order: found {self.curation.pick.order}, which needs judges.signals.{missing[0]}; ask for it there"
            )
        return self

    @model_validator(mode="after")
    def gate_names_a_baseline(self) -> "Contract":
        names = [baseline.name for baseline in self.evaluation.baselines]
        for wanted in self.gate.beats:
            if wanted not in names:
                raise ValueError(f"gate.beats: found {wanted!r}, expected one of evaluation.baselines {names}")
        return self

    @model_validator(mode="after")
    def prices_name_a_teacher(self) -> "Contract":
        names = [teacher.name for teacher in self.teachers.models]
        for priced in self.budget.price.teachers:
            if priced not in names:
                raise ValueError(f"budget.price.teachers: found {priced!r}, expected one of teachers.models {names}")
        return self

    def student(self, name: str) -> Student:
        """Return the student called `name`."""
        return next(student for student in self.students if student.name == name)
