"""The pipeline: which job makes which artifact, and from what.

    prompts      a line of a source becomes a prompt, a reject with its reason, or a duplicate; the holdout is split off
    candidates   each teacher answers each prompt n times; answers are checked, judged, and routed to exactly one pool
    dataset      duplicates are dropped, clusters are balanced, and the picked answers become examples
    students/*   each student is trained on the examples; all train at the same time
    reports      teacher, students, champion and baselines answer the holdout and are compared

A job opens the artifacts of the jobs that it `needs`. The sections of the contract that it `reads` are its recipe. Promotion is
a command, not a job: `rayleigh promote` reads the reports, and no job depends on it.
"""

from engine.contract import Contract
from engine.runs.job import Job

REJUDGE = (
    "Only the judge has changed, so you can also run `rayleigh rejudge {run} --contract FILE`: it asks no teacher, grades the "
    "existing answers and shows which change pools; with --write it replaces the candidates."
)


def pipeline(contract: Contract) -> tuple[Job, ...]:
    """Return the jobs of `contract`; each comes after those that it needs."""
    students = [f"students/{student.name}" for student in contract.students]
    return (
        Job(
            "prompts",
            needs=(),
            reads=("specialist.task_units", "prompts", *(["budget.teacher_tokens"] if contract.prompts.synthesize else [])),
            run="jobs.steps.prompts:run",
            inputs="jobs.steps.prompts:source_hashes",
        ),
        Job(
            "candidates",
            needs=("prompts",),
            reads=("specialist.task_units", "teachers", "judges", "budget.teacher_tokens", "budget.judge_tokens"),
            run="jobs.steps.candidates:run",
            inputs="jobs.steps.toolset:file_hashes",
            usable="jobs.steps.usable:require_usable",
            hints=dict.fromkeys(("judges", "budget.judge_tokens"), REJUDGE),
        ),
        Job(
            "dataset",
            needs=("prompts", "candidates"),
            reads=("specialist.task_units", "curation", "budget.teacher_tokens"),
            run="jobs.steps.dataset:run",
            inputs="jobs.steps.labels:inputs",
        ),
        *(Job(name, needs=("dataset",), reads=(name.replace("/", "."),), run="jobs.steps.students:run") for name in students),
        Job(
            "reports",
            needs=("prompts", "candidates", "dataset", *students),
            reads=("specialist", "teachers", "evaluation", "gate", "budget.price"),
            run="jobs.steps.reports:run",
        ),
    )
