"""`rayleigh search`: try values of a student's keys on the finished dataset of a run, and train the best ones over several seeds.

The space is a file (`engine/contract/search.py`). Below `RUN/search/NAME`: `trials/` (an artifact for each trial that ended by
itself: its loss curve), `table/` (all trials, best first, as the table `trials`), `winner/` (the retraining), `contract.yaml`,
and `search.json`, which is also what `--json` prints: a `SearchResult`. A second call goes on where the first one ended.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from engine.contract.contract import Contract
from engine.contract.renames import older_json
from engine.contract.search import Search, limits, variant
from engine.contract.sections import parse, read_yaml
from engine.contract.students import Student
from engine.errors import ContractError, InputError, ModelError
from engine.records.search import EndedBy, SearchResult, Trial
from engine.records.student import StudentMetrics
from engine.rows import content_id
from engine.runs.job import Job, JobContext, is_finished, run_pipeline
from engine.students.init.tokenizer import description
from jobs import workspace
from jobs.commands.absolute import absolute_paths
from jobs.commands.check import verify
from jobs.commands.search_table import ENDED, write_table
from jobs.pipeline import pipeline
from jobs.terminal.console import Console, columns
from jobs.workspace import Workspace

if TYPE_CHECKING:
    from jobs.steps.search import SearchSetup

ON_A_CLUSTER = 8  # trials at the same time, if the space does not say


def search(path: str, run: str, *, space: str, profile: str, changes: Sequence[str]) -> SearchResult:
    """Run the search of the file `space` for the contract `path` in the folder `run`, whose dataset is finished.

    Raises:
        ContractError: the space has an unknown key, an empty list, or a value that the student may not have; nothing has begun.
        InputError: Optuna is not installed, or the contract has no such student.
        MissingArtifact: the run has no dataset yet.
        RecipeMismatch: the dataset was made by another recipe.
        ModelError: no trial ended by itself within the budget.
    """
    work = workspace.create(path, run, profile=profile, changes=changes)
    order = parse(Search, read_yaml(Path(space)), where=Path(space))
    check(work, order, space)
    if importlib.util.find_spec("optuna") is None:
        raise InputError("rayleigh search: Optuna is not installed. Install it: pip install 'rayleigh[search]'")
    console = Console(sys.stderr)  # stdout is for the result of this command
    with workspace.locked(work.folder):
        setup = _setup(work, order, console)
        _run(setup, console)
        return _result(setup, console)


def check(work: Workspace, order: Search, space: str) -> None:
    """Check every value of the space alone, with the files and models that it names, before anything is trained.

    Raises:
        ContractError, InputError, ModelError: see `search`.
    """
    names = [student.name for student in work.contract.students]
    if order.student not in names:
        raise InputError(f"{space}: student: found {order.student!r}, expected one of {', '.join(names)}.")
    student = work.contract.student(order.student)
    problems, variants = [], list[Student]()
    for key, value in limits(order):
        try:
            one = variant(student, {key: value})
            _require_data(work.contract, student, one)
            variants.append(one.model_copy(update={"name": f"v{len(variants)}"}))
        except ValueError as error:
            problems.append(f"  keys.{key}: {json.dumps(value)}: {error}")
    if problems:
        raise ContractError("\n".join([f"{space}: {len(problems)} problem(s):", *problems]))
    varied, cache = work.contract.model_copy(update={"students": (student, *variants)}), work.profile.weights_cache
    verify(varied, root=work.root, models=work.models, run=work.folder, cache=cache)


def _require_data(contract: Contract, student: Student, one: Student) -> None:
    """Raise ValueError if the variant `one` of `student` reads what the run of `contract` does not have, or is at odds with it."""
    if description(one) not in {description(each) for each in contract.students}:
        raise ValueError(
            f"needs a tokenizer made from {description(one)}, and the run has none; name a student with it in the contract"
        )
    if one.objectives.reads_capture and not student.objectives.reads_capture:
        raise ValueError(
            f"{', '.join(one.objectives.active)} reads the teacher's distribution, and {student.name} of the contract does not: "
            "give the objective a weight there, so that the run has its capture"
        )
    others = tuple(one if each is student else each for each in contract.students)
    try:
        Contract.model_validate(contract.model_copy(update={"students": others}).model_dump(mode="json"))
    except ValidationError as error:
        raise ValueError("; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())) from None


def _setup(work: Workspace, order: Search, console: Console) -> "SearchSetup":
    from jobs.steps.search import SearchSetup

    jobs = {job.name: job for job in pipeline(work.contract)}
    job = jobs[f"students/{order.student}"]
    inputs = {}
    for name in (name for name in job.needs if name not in job.derived):
        context = work.context(jobs[name], log=console.log, progress=console.progress)
        is_finished(context)  # raises if it was made by another recipe
        inputs[name] = workspace.finished(work.folder, name).fingerprint
    student = older_json(
        work.contract.student(order.student), "students.*", exclude={"name", "seed", "seeds", "keep_seeds", "exports"}
    )
    keys = order.model_dump_json(include={"keys"})
    return SearchSetup(work, order, content_id(student, keys, json.dumps(inputs, sort_keys=True))[:12], job)


def _run(setup: "SearchSetup", console: Console) -> None:
    from jobs.terminal.session import ray_session

    work, order = setup.work, setup.search
    if _is_over(setup) and all(is_finished(_winner_context(setup, trial, console)) for trial in _ranked(setup)[:1]):
        return
    with ray_session(work, console):
        from jobs.steps.search import run_trials

        needed = [job for job in pipeline(work.contract) if job.name in setup.job.derived]  # made of the dataset: nothing is paid
        run_pipeline(needed, lambda job: work.context(job, log=console.log, progress=console.progress))
        console.log(f"search/{order.student}: {len(setup.trials())} of {order.budget.trials} trials were begun before")
        run_trials(setup, at_once=order.at_once or _at_once(work, order.student), progress=console.log)
        winner = _winner(setup)
        run_pipeline([_winner_context(setup, winner, console).job], lambda job: _winner_context(setup, winner, console))
    for trial in setup.trials():
        (work.folder / "ledger" / "checkpoints" / setup.context(trial.values, console.log).contract.students[0].name).remove()


def _is_over(setup: "SearchSetup") -> bool:
    return _ended_by(setup) is not None


def _ended_by(setup: "SearchSetup") -> EndedBy | None:
    """Return the limit of the budget that was reached; None if there is something left of each."""
    budget, trials = setup.search.budget, setup.trials()
    ended = sum(trial.status in ENDED for trial in trials)
    if budget.target_tokens is not None and sum(trial.tokens for trial in trials) >= budget.target_tokens:
        return "target_tokens"
    if budget.seconds is not None and setup.seconds() >= budget.seconds:
        return "seconds"
    return "trials" if ended >= budget.trials else None


def _ranked(setup: "SearchSetup") -> list[Trial]:
    """Return the trials, best first: those that ended by themselves, then the others with a score, then those without."""

    def place(trial: Trial) -> tuple[bool, bool, float, str]:
        return trial.status != "finished", trial.score is None, -(trial.score or 0.0), trial.trial

    return sorted(setup.trials(), key=place)


def _winner(setup: "SearchSetup") -> Trial:
    ranked = _ranked(setup)
    if ranked and ranked[0].status == "finished":
        return ranked[0]
    lines = [f"  {trial.trial[:8]} {trial.status} {trial.error}".rstrip() for trial in ranked]
    raise ModelError(
        "\n".join([f"search/{setup.search.student}: none of {len(ranked)} trials ended by itself:", *lines])
        + "\nRaise the limits of `budget` in the space, or correct what made them fail, and run again: it goes on."
    )


def _winner_context(setup: "SearchSetup", trial: Trial, console: Console) -> JobContext:
    """Return the context of the job that trains the winner over the seeds of the search."""
    contract = _winner_contract(setup, trial)
    name = f"search/{setup.search.student}/winner/{trial.trial[:12]}/{setup.search.student}"
    job: Job = replace(setup.job, name=name)
    return replace(setup.work, contract=contract).context(job, log=console.log, progress=console.progress)


def _winner_contract(setup: "SearchSetup", trial: Trial) -> Any:
    contract, name = setup.work.contract, setup.search.student
    best = variant(contract.student(name), trial.values).model_copy(update={"seeds": setup.search.seeds})
    students = tuple(best if student.name == name else student for student in contract.students)
    return contract.model_copy(update={"students": students})


def _at_once(work: Workspace, student: str) -> int:
    """Return how many trials run at the same time: on this machine as many as there are cores for."""
    cores = max(1.0, work.profile.trainer.cpus * work.contract.student(student).workers)
    return max(1, int((os.cpu_count() or 1) / cores)) if work.profile.ray.address == "local" else ON_A_CLUSTER


def _result(setup: "SearchSetup", console: Console) -> SearchResult:
    """Write the table of trials, the contract and `search.json`, and return the latter."""
    work, name, ranked, winner = setup.work, setup.search.student, _ranked(setup), _winner(setup)
    folder = work.folder / "search" / name
    number = [student.name for student in work.contract.students].index(name)
    contract = _winner_contract(setup, winner)
    measured = workspace.finished(work.folder, _winner_context(setup, winner, console).job.name).metrics(StudentMetrics)
    text = yaml.safe_dump(absolute_paths(contract.model_dump(mode="json"), work.root), sort_keys=False, width=120)
    folder.write("contract.yaml", text.encode())
    result = SearchResult(
        run=str(work.folder),
        student=name,
        trials=tuple(ranked),
        ended_by=_ended_by(setup) or "trials",  # the space has no more points
        tokens=sum(trial.tokens for trial in ranked),
        seconds=setup.seconds(),
        winner=winner,
        changes=tuple(f"students.{number}.{key}={json.dumps(value)}" for key, value in winner.values.items()),
        contract=f"{folder}/contract.yaml",
        spread={measure: (spread.mean, spread.sd) for measure, spread in measured.spread.items()},
    )
    write_table(work.folder, name, ranked, setup.base)
    folder.write("search.json", result.model_dump_json(indent=1).encode())
    return result


def as_text(result: SearchResult) -> str:
    """Return the ranking as a table, and what to do with the winner."""
    keys = list(result.winner.values)
    head = ["rank", "trial", "status", "score", "loss", "epochs", "tokens", "seconds", *keys]
    rows = [[rank, *_cells(trial), *(json.dumps(trial.values[key]) for key in keys)] for rank, trial in enumerate(result.trials, 1)]
    spread = ", ".join(f"{name} {mean:.4f} +- {sd:.4f}" for name, (mean, sd) in result.spread.items())
    lines = [
        f"search for {result.student}: {len(result.trials)} trials, {result.tokens} target tokens, {result.seconds:.0f} s; "
        f"ended by budget.{result.ended_by}. Score: exact match, or the validation loss with its sign changed.",
        columns(rows, head=head),
        f"The winner over seeds: {spread or 'one seed'}." if result.spread else "",
        "In words: " + " ".join(f"--set '{change}'" for change in result.changes),
        f"As a contract: rayleigh run {result.contract} NEW_RUN",
    ]
    return "\n\n".join(line for line in lines if line)


def _cells(trial: Trial) -> list[object]:
    scores = [_number(trial.score), _number(trial.loss)]
    return [trial.trial[:8], trial.status, *scores, f"{trial.epochs:.1f}", trial.tokens, f"{trial.seconds:.0f}"]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
