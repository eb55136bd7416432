"""The whole flow, each job called by what it makes.

A job opens the artifacts that it `needs`; the sections of the contract that it `reads` are its identity. What happens to a row:

    prompts      a line of a source becomes a prompt, a reject with its reason, or a copy of another; the holdout is set aside
    candidates   each prompt is answered n times by each teacher, checked, marked by the judge, and sent to exactly one pool
    dataset      copies and near-copies lose to one keeper, clusters are balanced, what is picked becomes an example
    students/*   each capacity learns the examples; all are trained side by side
    reports      teacher, students, champion and baselines answer the holdout; one page says how they compare

Release is a decision, not a step: `rayleigh promote` reads the reports, and nothing above depends on it.
"""

from engine.contract import Contract
from engine.runs.job import Job

REJUDGE = (
    "Or, as only the judge has changed: `rayleigh rejudge {run} --contract FILE` asks no teacher, grades the answers that are "
    "there and shows what moves; with --write it stays so."
)


def line(contract: Contract) -> tuple[Job, ...]:
    """Return the jobs that make what `contract` orders, in order."""
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
            inputs="jobs.steps.toolset:hashes",
            follows=dict.fromkeys(("judges", "budget.judge_tokens"), REJUDGE),
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
