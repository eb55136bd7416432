"""The contract: all sections together, and the rules between sections."""

from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import Field, model_validator

from engine.contract.base import Name, Section, Share, added, distinct
from engine.contract.budget import Budget
from engine.contract.capture import SCORES, Capture
from engine.contract.curation import SIGNALS_OF_ORDER, Curation
from engine.contract.derived import swap_problems
from engine.contract.evaluation import Evaluation
from engine.contract.evidence import LIKELIHOOD
from engine.contract.exports import AnyExport
from engine.contract.gate import Gate
from engine.contract.iterate import Iterate
from engine.contract.judges import Judges
from engine.contract.on_policy import problems
from engine.contract.prompts import Prompts, Source
from engine.contract.reference import is_none
from engine.contract.serving import Serving, serving_problems
from engine.contract.specialist import Specialist
from engine.contract.students import Student
from engine.contract.synthesize import supports_counter_examples
from engine.contract.teachers import Teachers


class Contract(Section):
    """Everything that is ordered: one section for each step, from prompts to the gate of a release."""

    name: Name
    """Name of the contract; releases are registered under it."""
    specialist: Specialist
    """The task that the students learn."""
    prompts: Prompts
    """Where prompts and the holdout come from."""
    teachers: Teachers
    """Which models answer the prompts."""
    judges: Judges
    """How answers are checked, judged and sent to pools."""
    curation: Curation = Curation()
    """Which answers become training examples."""
    capture: Capture | None = Field(default=None, exclude_if=is_none)
    """The teachers' distributions over the examples' target tokens, for objectives that read them; null = none is captured."""
    students: Annotated[tuple[Student, ...], distinct()] = Field(min_length=1)
    """The models that are trained, side by side."""
    evaluation: Evaluation = Evaluation()
    """How all models are compared on the holdout."""
    gate: Gate
    """What a student must reach to be released."""
    budget: Budget = Budget()
    """What may be spent, and prices."""
    serving: Serving | None = Field(default=None, exclude_if=is_none)
    """What a served answer goes through; null = every answer of the champion is given. No job depends on it."""
    iterate: Iterate = added(Iterate())
    """How `rayleigh iterate` plans the rounds after the first. No job depends on it."""
    warn_above: Share = 0.5
    """A job that drops more than this share of its rows for one fault or likeness says so on the console, in `status` and in its
    record, with what to set; rows that the contract leaves out on purpose (`quota`, further samples) do not count. 1 = never."""

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
    def named_task_units_exist(self) -> "Contract":
        units = [unit.name for unit in self.specialist.task_units]
        for path, names in self._named_task_units():
            if unknown := sorted(name for name in names if name not in units):
                raise ValueError(f"{path}: found {unknown}, expected some of {units}")
        return self

    def _named_task_units(self) -> Iterator[tuple[str, Iterable[str]]]:
        for number, rubric in enumerate(self.judges.rubrics):
            yield f"judges.rubrics.{number}.by_task_unit", rubric.by_task_unit
        if self.judges.ranking:
            yield "judges.ranking.by_task_unit", self.judges.ranking.by_task_unit
        for number, route in enumerate(self.teachers.routes or ()):
            yield f"teachers.routes.{number}.when.task_unit", route.when.task_unit if route.when else ()
        for section, checks in (("judges", self.judges.checks), ("evaluation", self.evaluation.checks)):
            for number, check in enumerate(checks):
                yield f"{section}.checks.{number}.task_units", check.task_units

    @model_validator(mode="after")
    def named_baselines_and_teachers_exist(self) -> "Contract":
        for path, names, section, items in (
            ("gate.beats", self.gate.beats, "evaluation.baselines", self.evaluation.baselines),
            ("budget.price.teachers", self.budget.price.teachers, "teachers.models", self.teachers.models),
        ):
            expected = [item.name for item in items]
            for name in names:
                if name not in expected:
                    raise ValueError(f"{path}: found {name!r}, expected one of {section} {expected}")
        return self

    @model_validator(mode="after")
    def counter_examples_can_be_proven(self) -> "Contract":
        for number, synthesis in enumerate(self.prompts.synthesize):
            provable = any(supports_counter_examples(unit) for unit in self.specialist.task_units)
            if synthesis.method.type == "counter_example" and not provable:
                raise ValueError(
                    f"prompts.synthesize.{number}: a counter_example needs a task unit with on_missing abstain and output.spans, "
                    "or nothing says that a fact is gone"
                )
        return self

    @model_validator(mode="after")
    def names_of_evaluated_models_differ(self) -> "Contract":
        names = [model.name for model in (*self.teachers.models, *self.students, *self.evaluation.baselines)]
        twice = sorted({name for name in names if names.count(name) > 1} | {"champion"} & set(names))
        if twice:
            raise ValueError(f"names of teachers, students and baselines must differ, and none may be `champion`: found {twice}")
        return self

    @model_validator(mode="after")
    def curriculum_by_tier_has_tiers(self) -> "Contract":
        for number, student in enumerate(self.students):
            if student.curriculum == "confidence_tier" and not self.judges.pools.confidence_tiers:
                raise ValueError(
                    f"students.{number}.curriculum: found confidence_tier, but "
                    "judges.pools.confidence_tiers is empty; list confidences there"
                )
        return self

    @model_validator(mode="after")
    def objectives_have_their_data(self) -> "Contract":
        tiers = len(self.judges.pools.confidence_tiers)
        for number, student in enumerate(self.students):
            path, objectives = f"students.{number}.objectives", student.objectives
            needing = ", ".join(objectives.active)
            if unknown := [tier for tier in objectives.by_tier if not 0 <= tier < tiers]:
                raise ValueError(f"{path}.by_tier: found {unknown}; judges.pools.confidence_tiers has {tiers}, counted from 0")
            if objectives.reads_pairs and self.curation.preferences is None:
                raise ValueError(
                    f"{path}: {needing} reads preference pairs, and none are made; write `preferences: {{}}` in curation, and ask "
                    "teachers for more than one sample, so that prompts have an accepted and a rejected answer"
                )
            if objectives.reads_capture and getattr(self, "capture", None) is None:
                raise ValueError(f"{path}: {needing} reads the teacher's distribution; write the section `capture: {{}}`")
        return self

    @model_validator(mode="after")
    def twins_differ_by_their_objectives_alone(self) -> "Contract":
        students = {student.name: student for student in self.students}
        for name, twin in self.gate.hurt_by.twins.items() if self.gate.hurt_by else ():
            path = f"gate.hurt_by.twins.{name}"
            if missing := [each for each in (name, twin) if each not in students]:
                raise ValueError(f"{path}: found {missing[0]!r}, expected one of students {list(students)}")
            different = sorted(
                key
                for key in Student.model_fields
                if key not in ("name", "objectives") and getattr(students[name], key) != getattr(students[twin], key)
            )
            if different:
                raise ValueError(f"{path}: {name} and {twin} must differ by name and objectives alone, found other {different}")
            if students[twin].objectives.active != ("sft",):
                raise ValueError(f"{path}: {twin} must be trained by sft alone, found {students[twin].objectives.active}")
        return self

    @model_validator(mode="after")
    def judged_mode_has_a_judge(self) -> "Contract":
        if self.teachers.mode in ("judged", "competition") and not (self.judges.rubrics or self.judges.evidence):
            raise ValueError(f"judges.rubrics: is needed in teachers.mode {self.teachers.mode}; add one or use mode direct")
        return self

    @model_validator(mode="after")
    def evidence_is_there(self) -> "Contract":
        """Answers of a run and labelled ones must be seen alike: labelled items have neither reasoning nor calls of tools."""
        evidence, teachers = self.judges.evidence, [teacher for teacher in self.teachers.models if teacher.answers]
        if evidence is None:
            return self
        if self.teachers.mode == "direct":
            raise ValueError("judges.evidence: in teachers.mode direct the checks alone decide; use mode judged, or take it out")
        if not teachers:
            raise ValueError("judges.evidence: no model answers, teachers.models are labels; take it out")
        if "teachers" in evidence.of and len(teachers) < 2:
            raise ValueError(f"judges.evidence.of: teachers compares with other teachers, and {teachers[0].name} is the only one")
        if names := sorted({each.name for each in evidence.readers} & {each.name for each in self.teachers.models}):
            raise ValueError(f"judges.evidence.readers: found {names}, which are teachers; give readers other names")
        likelihoods = [kind for kind in evidence.of if kind in LIKELIHOOD]
        apart = [teacher.name for teacher in teachers if teacher.thinks]
        if likelihoods and (apart or self.teachers.mode == "tools"):
            what = f"{apart[0]} reasons before it answers" if apart else "teachers call tools"
            raise ValueError(f"judges.evidence.of: found {likelihoods}, but {what}, and labelled items hold the answer alone")
        if problem := evidence.unreadable(teachers):
            raise ValueError(f"judges.evidence.{problem}")
        return self

    @model_validator(mode="after")
    def tools_are_called_where_they_are_used(self) -> "Contract":
        paths = [f"specialist.task_units.{unit.name}.supervise" for unit in self.specialist.task_units if unit.supervise == "tools"]
        paths += ["judges.checks" for check in self.judges.checks if check.type == "tools"]
        if paths and self.teachers.mode != "tools":
            raise ValueError(f"{paths[0]}: found tools, but teachers.mode {self.teachers.mode} calls none; use mode tools")
        return self

    @model_validator(mode="after")
    def labels_are_there(self) -> "Contract":
        labels = [number for number, teacher in enumerate(self.teachers.models) if not teacher.answers]
        if labels and not any(_has_references(source) for source in self.prompts.sources):
            raise ValueError(
                f"teachers.models.{labels[0]}.model: found labels, but no source of prompts has references; map `reference` in the "
                "columns of one, or write `last_assistant: reference` there if its conversations end with answers"
            )
        return self

    @model_validator(mode="after")
    def what_needs_a_teacher_has_one(self) -> "Contract":
        """References answer no prompt of the holdout, so a student has nobody to be compared with, or to fall back to."""
        if any(teacher.answers for teacher in self.teachers.models):
            return self
        above = self.specialist.niche.answer_above
        compared = ("retention", "retention_unseen", "cost_per_1000_accepted")
        wants = [f"gate.{name}" for name in compared if getattr(self.gate, name) is not None]
        wants += ["specialist.niche.answer_above"] if above else []
        if wants:
            raise ValueError(
                f"{', '.join(wants)}: needs a teacher that answers the holdout, and all of teachers.models are labels; use "
                "gate.exact_match, or gate.beats with a baseline, or add a model to teachers.models"
            )
        return self

    @model_validator(mode="after")
    def checks_find_their_references(self) -> "Contract":
        """Only `judges.checks` is looked at: `evaluation.checks` run over the holdout, which always has references."""
        without = [source for source in self.prompts.sources if not _has_references(source)]
        for number, check in enumerate(self.judges.checks):
            lacking = [source.path for source in without if not check.task_units or source.task_unit in (None, *check.task_units)]
            lacking += [synthesis.title for synthesis in self.prompts.synthesize]
            if check.wants_references and lacking:
                raise ValueError(
                    f"judges.checks.{number}: {check.title} compares with each prompt's own reference, and prompts of {lacking[0]} "
                    "have none; map `reference` in the source's columns, or write `last_assistant: reference` there if its "
                    "conversations end with answers, or give the reference a `value` or `pattern`, or write `missing: pass`"
                )
        return self

    @model_validator(mode="after")
    def pick_order_has_its_signals(self) -> "Contract":
        measured = self.judges.signals.requested if self.judges.signals else ()
        needed = SIGNALS_OF_ORDER.get(self.curation.pick.order, ())
        if missing := [name for name in needed if name not in measured]:
            raise ValueError(
                f"curation.pick.order: found {self.curation.pick.order}, which needs judges.signals.{missing[0]}; ask for it there"
            )
        return self

    @model_validator(mode="after")
    def captured_teachers_give_log_probabilities(self) -> "Contract":
        if self.capture is None:
            return self
        models = {teacher.name: teacher.model for teacher in self.teachers.models if teacher.answers}
        if not models:
            raise ValueError("capture: found labels alone, which have no distribution; add a teacher of type vllm, or leave it out")
        if unknown := sorted({*(self.capture.teachers or ()), *self.capture.tokenizers} - set(models)):
            raise ValueError(f"capture: found {unknown}, expected teachers that answer: {sorted(models)}")
        able = [name for name, model in models.items() if model.type in SCORES and getattr(model, "logprobs", True)]
        for name in self.capture.teachers or models:
            remedy = f"name those that do in capture.teachers: {able}" if able else "use a teacher of type vllm"
            if name not in able:
                raise ValueError(f"capture.teachers: {name} is a teacher without log-probabilities (of given texts); {remedy}")
            if models[name].type == "endpoint" and self.capture.constraint == "answer":
                raise ValueError(
                    f"capture.constraint: found answer, but the teacher {name} is behind an endpoint, which gives no whole row of "
                    "log-probabilities to mask; write constraint: none"
                )
            if models[name].type == "endpoint" and name not in self.capture.tokenizers:
                raise ValueError(f"capture.tokenizers.{name}: is needed: the folder of the tokenizer of the endpoint's model")
        return self

    @model_validator(mode="after")
    def rounds_have_their_teachers_and_rewards_and_served_models_exist(self) -> "Contract":
        if found := [*problems(self), *serving_problems(self), *swap_problems(self)]:
            raise ValueError("; ".join(found))
        return self

    def student(self, name: str) -> Student:
        """Return the student called `name`."""
        return next(student for student in self.students if student.name == name)

    def deployment(self, name: str) -> tuple[Student, AnyExport | None]:
        """Return the student of the deployment `name`, such as `s` or `s.q8_0`, and its export; None for the student itself."""
        student_name, _, export_name = name.partition(".")
        student = self.student(student_name)
        return student, next((export for export in student.exports if export.name == export_name), None)


def _has_references(source: Source) -> bool:
    """Return whether the contract maps a reference, or says that the conversations of `source` end with one."""
    ends_with_one = "last_assistant" in source.model_fields_set and source.last_assistant == "reference"
    return "reference" in source.columns or ("messages" in source.columns and ends_with_one)
