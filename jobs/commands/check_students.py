"""Students in `rayleigh check`: what of a training can be known to fail or to mislead before anything is paid."""

from collections.abc import Iterator

from engine.contract.contract import Contract
from engine.contract.students import Student
from engine.errors import ContractError
from engine.students.on_policy.rewards import Rewards


def verify_students(contract: Contract) -> None:
    """Check that the students will have examples to be validated on, and that their settings go together.

    Raises:
        ContractError: there are none, or the settings of a student do not; every problem is named.
    """
    problems = [problem for student in contract.students for problem in _problems(student)]
    problems += _pair_problems(contract)
    if not contract.curation.pick.validation:
        problems.append(
            "curation.pick.validation: found 0, expected a share above it: without validation examples no student has a best "
            "model, and its training is refused. The default is 0.1."
        )
    if contract.curation.pick.validation == 1:
        problems.append(
            "curation.pick.validation: found 1, which is a share, expected less: no example would be left to learn from. The "
            "default is 0.1."
        )
    if problems:
        raise ContractError("\n".join(problems))


def _problems(student: Student) -> Iterator[str]:
    path, most = f"students.{student.name}", student.max_steps
    if most is not None and student.warmup_steps is not None and student.warmup_steps >= most:
        yield (
            f"{path}.warmup_steps: found {student.warmup_steps}, expected less than max_steps, which is {most}: the learning rate "
            "would never be reached. Lower it, or use warmup_ratio."
        )
    if most is not None and student.validate_steps is not None and student.validate_steps > most:
        yield (
            f"{path}.validate_steps: found {student.validate_steps}, expected at most max_steps, which is {most}. With {most} "
            "there is one validation, after the last step."
        )
    if "hidden" in student.objectives.active and student.init.vocabulary:
        yield (
            f"{path}.objectives.hidden: found with init.vocabulary, expected one of them: a trimmed vocabulary has other tokens "
            "than the source, so that their hidden states cannot be compared. Use forward_kl."
        )


def _pair_problems(contract: Contract) -> Iterator[str]:
    """Yield what lacks for the students that read preference pairs: a pair is of two answers to one prompt."""
    readers = [student.name for student in contract.students if student.objectives.reads_pairs]
    if not readers:
        return
    answers = {teacher.name: teacher.sampling.n if teacher.answers else 1 for teacher in contract.teachers.models}
    reached = [route.reaches for route in contract.teachers.routes or ()] or [set(answers)]
    if max(sum(answers[name] for name in names) for names in reached) < 2:
        yield (
            f"teachers.models: every prompt gets one answer, and {', '.join(readers)} learns from pairs of two answers to one "
            "prompt, of which there will be none. Raise sampling.n, or add a teacher."
        )
    if all(unit.supervise == "tools" for unit in contract.specialist.task_units):
        yield (
            f"specialist.task_units: all supervise tools, of whose trajectories no pairs are made, and {', '.join(readers)} learns "
            "from pairs. Take dpo, orpo and simpo out of its objectives."
        )


def student_line(student: Student) -> str:
    """Return how a student is made, in a line."""
    length = f"{student.max_steps} steps" if student.max_steps else f"{student.epochs} epochs"
    limit = f", at most {student.max_seconds:g} s" if student.max_seconds else ""
    seeds = f", {student.seeds} seeds" if student.seeds > 1 else ""
    chosen = f", best by {student.metric} ({student.decode})" if student.metric != "loss" else ""
    rounds = f", then {student.on_policy.rounds} on-policy rounds ({student.on_policy.objective})" if student.on_policy else ""
    shared = f", {student.workers} workers in ZeRO stage {student.zero}" if student.workers > 1 else ""
    return f"{student.name}: {student.init.summary}, {length}{limit}{seeds}{chosen}{rounds}{shared}"


def student_notes(contract: Contract) -> Iterator[str]:
    """Yield what a training may not do as expected."""
    texts = [unit.name for unit in contract.specialist.task_units if unit.output.json_schema is None]
    for student in contract.students:
        if student.metric == "exact_match" and texts:
            yield (
                f"{student.name}: metric exact_match compares the text of {', '.join(texts)} with the teacher's answer, word for "
                "word, as there is no schema: of texts that may be worded in many ways, few are equal; use metric: loss for these"
            )
        if student.on_policy and student.on_policy.rewards:
            rewards = Rewards.of(contract.judges.checks, student.on_policy.rewards, contract.specialist)
            if without := sorted({unit.name for unit in contract.specialist.task_units} - rewards.task_units):
                yield f"{student.name}: on_policy.rewards has no check for {', '.join(without)}, so their prompts are not sampled"
        if student.max_seconds and student.schedule == "cosine":
            yield (
                f"{student.name}: max_seconds may end the cosine of the learning rate before its low end; with schedule: wsd the "
                "rate falls before the time is over"
            )
        if "process" in student.objectives.active and all(unit.supervise != "process" for unit in contract.specialist.task_units):
            yield f"{student.name}: process is the same as sft: no task unit has supervise: process, so no target has a rationale"
        if student.packing and not student.objectives.reads_examples:
            yield f"{student.name}: packing has no effect: it joins examples, and preference pairs are padded"
        yield from _recovery_notes(student)


def twin_notes(contract: Contract) -> Iterator[str]:
    """Yield which students the gate cannot refuse for what their objectives cost, as they have no twin."""
    twins = contract.gate.hurt_by.twins if contract.gate.hurt_by else {}
    for student in contract.students:
        objectives = student.objectives
        if (objectives.reads_capture or objectives.reads_pairs) and student.name not in twins:
            named = ", ".join(name for name in objectives.active if name != "sft")
            yield (
                f"{student.name}: whether {named} hurt it is not measured; add a student that differs by `objectives: {{sft: 1}}` "
                f"alone, and name it in gate.hurt_by.twins"
            )


def _recovery_notes(student: Student) -> Iterator[str]:
    shrink, warmup = student.init.shrink, student.warmup_steps
    if shrink is None or shrink.steps == 1 or not shrink.recover_steps:
        return
    if student.objectives.reads_pairs:
        yield f"{student.name}: between the cuts of init.shrink only the objectives over examples are trained, none over pairs"
    if warmup is not None and warmup >= shrink.recover_steps:
        yield (
            f"{student.name}: warmup_steps, {warmup}, are no fewer than init.shrink.recover_steps, {shrink.recover_steps}: between "
            f"two cuts the rate rises over warmup_ratio of these, {student.warmup_ratio:g}"
        )
