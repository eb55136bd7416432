"""Settings in `rayleigh check` that have no effect beside others: the author meant something else, and pays for the difference."""

from collections.abc import Iterator, Mapping, Sequence

from engine.contract.base import Section
from engine.contract.contract import Contract
from engine.contract.on_policy import OnPolicy
from engine.contract.students import Student

OF_GRPO = ("clip", "average", "scale", "stop_no_signal")
OF_KL = ("divergence", "k")


def idle_notes(contract: Contract) -> Iterator[str]:
    """Yield the settings of `contract` that differ from their defaults and are not read."""
    for number, teacher in enumerate(contract.teachers.models):
        own = teacher.model.type not in ("endpoint", "fake")  # a server's answers to one prompt may differ all the same
        if teacher.answers and own and teacher.sampling.n > 1 and teacher.sampling.temperature == 0:
            yield (
                f"teachers.models.{number}.sampling: found n {teacher.sampling.n} and temperature 0: the answers to a prompt are "
                "equal, and each is paid; write a temperature such as 0.7, with greedy_first if one shall be greedy, or n: 1"
            )
    if contract.judges.ranking and contract.teachers.mode != "competition":
        yield f"judges.ranking: found teachers.mode {contract.teachers.mode}, so only labelled items are compared, and no answers"
    if section := contract.capture:
        if not any(student.objectives.reads_capture for student in contract.students):
            yield "capture: no student has an objective that reads it (forward_kl, reverse_kl, jsd, uld), and the teachers are paid"
        if section.mass is None:
            yield from _unread("capture", section, ("most",), "mass is not given, and k decides")
        local = [teacher.name for teacher in contract.teachers.models if teacher.model.type != "endpoint"]
        if unread := [name for name in section.tokenizers if name in local]:
            yield f"capture.tokenizers: {', '.join(unread)} has no effect: only a teacher behind an endpoint lacks its tokenizer"
    for number, student in enumerate(contract.students):
        path = f"students.{number}"
        for keys, why in _unread_keys(student).items():
            yield from _unread(path, student, keys, why)
        process = student.objectives.process
        if process and process.epochs and student.max_steps is None and process.epochs >= student.epochs:
            yield (
                f"{path}.objectives.process.epochs: found {process.epochs}, which is no less than epochs, {student.epochs}: the "
                "rationale is never dropped"
            )
        if student.on_policy:
            yield from _idle_round(f"{path}.on_policy", student.on_policy)


def _unread_keys(student: Student) -> Mapping[tuple[str, ...], str]:
    """Return keys of `student` that nothing reads, and why."""
    found: dict[tuple[str, ...], str] = {}
    if student.seeds == 1:
        found["keep_seeds",] = "seeds is 1, so there are no other models"
    if student.metric == "loss":
        found["decode", "metric_examples"] = "metric is loss, for which nothing is generated"
    if student.schedule != "wsd":
        found["decay_ratio",] = f"schedule is {student.schedule}, which has no decay of its own"
    if student.max_steps is not None:
        found["epochs",] = f"max_steps, {student.max_steps}, takes its place"
    if student.warmup_steps is not None and not student.init.shrink:
        found["warmup_ratio",] = f"warmup_steps, {student.warmup_steps}, takes its place"
    return found


def _idle_round(path: str, section: OnPolicy) -> Iterator[str]:
    others = OF_KL if section.objective == "grpo" else OF_GRPO
    yield from _unread(path, section, others, f"objective is {section.objective}, which does not read it")
    if section.objective == "grpo" or section.divergence != "jsd":
        yield from _unread(path, section, ("beta",), "only divergence jsd reads it")


def _unread(path: str, section: Section, keys: Sequence[str], why: str) -> Iterator[str]:
    fields = type(section).model_fields
    for key in keys:
        if (value := getattr(section, key)) != fields[key].get_default():
            yield f"{path}.{key}: found {str(value).lower() if isinstance(value, bool) else value}, which has no effect: {why}"
