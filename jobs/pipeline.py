"""The pipeline: which job makes which artifact, and from what.

    prompts      a line of a source becomes a prompt, a reject with its reason, or a duplicate; the holdout is split off
    candidates   each teacher answers each prompt n times; answers are checked, judged, and routed to exactly one pool
    dataset      duplicates are dropped, clusters are balanced, and the picked answers become examples
    tokens       each example becomes token ids, once for each tokenizer of the students
    capture      the teachers' distributions at the target tokens of the examples; only if the contract orders it
    students/*   each student is trained on the examples; all train at the same time
    exports/*/*  a trained student becomes a further deployment, such as a GGUF file; only where the contract orders one
    reports      teacher, students, champion and baselines answer the holdout and are compared, the teachers while students
                 train; a student that failed is missing in the report, and the next run makes both again

A job opens the artifacts of the jobs that it `needs`. The sections of the contract that it `reads` are its recipe. Promotion is
a command, not a job: `rayleigh promote` reads the reports, and no job depends on it.
"""

from engine.contract.contract import Contract
from engine.contract.students import PLACEMENT
from engine.rows import PROMPT_DROPS, REJECTED, WITHDRAWN
from engine.runs.job import Job

REJUDGE = (
    "Only the judge has changed, so you can also run `rayleigh rejudge {run} --contract FILE`: it asks no teacher, grades the "
    "existing answers and shows which change pools; with --write it replaces the candidates."
)

REJECTS = "The table rejects of {run}/prompts says why, row by row: correct the source, or its `columns`."
COPIES = "The table dropped of {run}/prompts names the prompt that each lost to."
NEAR = (
    COPIES + " If they share an instruction and are no copies, lower prompts.copies.max_df below its share of the prompts "
    "(`shared` in {run}/prompts/record.json), or raise prompts.copies.threshold."
)
PROMPT_LOSSES = {
    **{reason: REJECTS for reason in REJECTED if reason != WITHDRAWN},
    **dict.fromkeys(PROMPT_DROPS, COPIES),
    **dict.fromkeys(("near_copy", "holdout_near"), NEAR),
}
CONTINUED = "Another release has been promoted since. To keep the student, name the old one: students.N.init.champion.version."
PICKED = "The table picked of {run}/dataset names, in `duplicate_of`, what each row lost to. "
DATASET_LOSSES = {
    "exact": PICKED + "Their prompts are equal: look at the sources.",
    "minhash": PICKED + "If their prompts are no copies, raise curation.minhash.threshold or lower curation.minhash.max_df.",
    "semantic": PICKED
    + "If their prompts mean different things, raise curation.semantic.threshold, or set curation.semantic: null.",
    "contaminated": PICKED
    + "If they are not like the holdout or a list, raise curation.decontaminate.overlap or lower its max_df.",
}


TOKENIZERS = (
    "The students have other tokenizers than before: delete only {run}/tokens. It is made again from the dataset, and finished "
    "students stay as they are."
)


TOKENISE, TRAIN = "jobs.steps.tokens:run", "jobs.steps.students:run"


def tokens_job(name: str = "tokens", *, examples: str = "dataset") -> Job:
    """Return the job that tokenises the examples of the artifact `examples`."""
    inputs = "jobs.steps.tokens:tokenizers"
    return Job(name, needs=(examples,), reads=(), run=TOKENISE, inputs=inputs, hints={"sources": TOKENIZERS})


def capture_job() -> Job:
    """Return the job that scores the examples' targets with the teachers."""
    reads = ("specialist.task_units", "teachers", "capture", "budget.teacher_tokens")
    again = "delete {run}/capture and run again: what is paid is kept."
    why = "`error` in the table captured of {run}/capture says why. "
    losses = {
        "budget_exhausted": f"Raise budget.teacher_tokens, {again}",
        "too_long": f"{why}Raise the max_model_len of the teacher's model, or give shorter prompts; then {again}",
        "refused": f"{why}Score with another teacher (capture.teachers), then {again}",
        "error": f"{why}Put it right, then {again}",
    }
    return Job(
        "capture",
        needs=("dataset", "tokens"),
        derived=("tokens",),
        reads=reads,
        run="jobs.steps.capture:run",
        inputs="jobs.steps.trained:inputs",
        losses=losses,
        chosen=("copies",),
    )


def student_job(
    name: str, *, examples: str = "dataset", tokens: str = "tokens", continued: bool = False, capture: bool = False
) -> Job:
    """Return the job that trains a student; the last part of its `name` is the student's in the contract.

    The release that a `continued` one begins with is part of its recipe. `capture`: one of its objectives reads the teacher's
    distribution.
    """
    reads = (f"students.{name.rpartition('/')[2]}",)
    needs = (examples, tokens, *(["capture"] if capture else []))
    begun = {"inputs": "jobs.steps.initial_source:identity", "hints": {"sources": CONTINUED}} if continued else {}
    return Job(name, needs=needs, derived=(tokens,), reads=reads, ignores=(*PLACEMENT, "exports"), run=TRAIN, **begun)


def pipeline(contract: Contract) -> tuple[Job, ...]:
    """Return the jobs of `contract`; each comes after those that it needs."""
    students = [f"students/{student.name}" for student in contract.students]
    continued = {f"students/{student.name}" for student in contract.students if student.init.champion}
    exports = [f"exports/{student.name}/{export.name}" for student in contract.students for export in student.exports]
    return (
        Job(
            "prompts",
            needs=(),
            reads=("specialist.task_units", "prompts", *(["budget.teacher_tokens"] if contract.prompts.synthesize else [])),
            run="jobs.steps.prompts:run",
            in_process="jobs.steps.prompts:is_in_process",
            inputs="jobs.steps.prompts:source_hashes",
            losses=PROMPT_LOSSES,
            chosen=(WITHDRAWN,),
        ),
        Job(
            "candidates",
            needs=("prompts",),
            reads=("specialist.task_units", "teachers", "judges", "budget.teacher_tokens", "budget.judge_tokens"),
            run="jobs.steps.candidates:run",
            inputs="jobs.steps.trained:inputs",
            usable="jobs.steps.usable:require_usable",
            hints=dict.fromkeys(("judges", "budget.judge_tokens"), REJUDGE),
            losses={"failure": "`reasons` and `error` in the table candidates of {run}/candidates say why."},
        ),
        Job(
            "dataset",
            needs=("prompts", "candidates"),
            reads=("specialist.task_units", "curation", "budget.teacher_tokens"),
            run="jobs.steps.dataset:run",
            in_process="jobs.steps.dataset:is_in_process",
            inputs="jobs.steps.labels:inputs",
            losses=DATASET_LOSSES,
            chosen=("pool", "sample", "quota"),
        ),
        tokens_job(),
        *([capture_job()] if contract.capture else []),
        *(
            student_job(name, continued=name in continued, capture=student.objectives.reads_capture)
            for name, student in zip(students, contract.students, strict=True)
        ),
        *(_export(name) for name in exports),
        Job(
            "reports",
            needs=("prompts", "candidates", "dataset", *students, *exports),
            optional=(*students, *exports),
            reads=("specialist", "teachers", "evaluation", "gate", "budget.price"),
            run="jobs.steps.reports:run",
            begin="jobs.steps.ahead:begin",
        ),
    )


def _export(name: str) -> Job:
    _, student, export = name.split("/")
    reads = (f"students.{student}.exports.{export}",)
    return Job(name, needs=("dataset", f"students/{student}"), reads=reads, run="jobs.steps.exports:run")
