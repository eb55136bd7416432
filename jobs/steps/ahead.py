"""What of the report is done while students train: the teachers answer the holdout."""

from collections.abc import Collection

from engine.distributed.capacity import wanted
from engine.errors import RayleighError
from engine.evaluation.ahead import Ahead, fitting
from engine.rows import HOLDOUT
from engine.runs.job import JobContext
from jobs.steps.reports import forget_deaths, ledger, teachers


def begin(context: JobContext, beside: Collection[str]) -> Ahead | None:
    """Let teachers answer beside the jobs `beside`, as far as the cluster has room for both; None where it has none, and where a
    training is given seconds, of which it must lose none."""
    contract, profile = context.contract, context.profile
    students = [student for student in contract.students if f"students/{student.name}" in beside]
    if not students or any(student.max_seconds for student in students):
        return None
    seeds = {f"students/{student.name}": student.seeds for student in students}
    wants = [want._replace(actors=want.actors * seeds.get(want.job, 1)) for want in wanted(contract, profile, beside)]
    try:
        targets = fitting(list(teachers(context)), profile, wants)
    except RayleighError:  # a teacher that cannot be loaded: the job says why
        return None
    if not targets:
        return None
    forget_deaths(context)
    holdout = context.artifact("prompts").read("holdout", HOLDOUT).to_pylist()
    ahead = Ahead(holdout, profile, ledger(context), timed=contract.evaluation.latency_prompts)
    for target in targets:
        ahead.begin(target)
    names = ", ".join(target.name for target in targets)
    context.log(f"{context.job.name}: while students train, the holdout is answered by {names}")
    return ahead
