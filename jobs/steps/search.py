"""Trials of a search on Ray Tune: each is a training of the product, whose numbers decide whether it goes on.

A trial is a job `search/NAME/trials/NAME-KEY` of the run. Tune's own files, which hold pickled objects, are of no use later and lie
in a temporary folder; what the next session needs is in the ledger, one JSON file a trial (`engine/records/search.py`): the sampler
is told of trials that have ended, and those that were interrupted are begun first and resume from their checkpoints.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory
from typing import Any

import ray.tune
from pydantic import JsonValue
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.stopper import Stopper

from engine.contract.search import Budget, Search, variant
from engine.records.search import Trial
from engine.records.student import StudentMetrics
from engine.rows import STEP, content_id
from engine.runs.job import Job, JobContext, is_finished, run_job
from engine.storage.artifact import RowCounts
from engine.storage.folder import Folder
from engine.students.export import adapter
from jobs.steps import students
from jobs.steps.search_sampler import Sampler, decoded, distributions, encoded
from jobs.workspace import Workspace

NUMBERS = ("score", "loss", "metric", "epochs", "steps", "tokens")
LONGEST = 10_000  # epochs: the scheduler wants an upper limit, the trainings have their own
LITTLE = {"cpu": 0.01}  # of the process that waits for a training


@dataclass(frozen=True)
class SearchSetup:
    """A search in a run folder; plain picklable values."""

    work: Workspace
    """Its contract has the student as it is."""
    search: Search
    base: str
    """Hash of the student, of what it is trained on and of the searched keys: other trials are none of this search."""
    job: Job
    """The job that trains the student in a run."""

    @property
    def ledger(self) -> Folder:
        """Where the trials of this search are noted."""
        return self.work.folder / "ledger" / "search" / self.search.student / self.base

    def key(self, values: Mapping[str, JsonValue]) -> str:
        """Return the hash of a trial's values."""
        return content_id(self.base, encoded(self.search, values))

    def context(self, values: Mapping[str, JsonValue], log: Callable[[str], None]) -> JobContext:
        """Return the context of the job that trains the student with `values`."""
        contract, name = self.work.contract, f"{self.search.student[:27]}-{self.key(values)[:12]}"
        alone = {"name": name, "seeds": 1, "keep_seeds": False, "exports": ()}
        student = variant(contract.student(self.search.student), values).model_copy(update=alone)
        job = replace(
            self.job,
            name=f"search/{self.search.student}/trials/{name}",
            reads=(f"students.{name}",),
            run="jobs.steps.search:train",
        )
        work = replace(self.work, contract=contract.model_copy(update={"students": (student,)}))
        return work.context(job, log=log, progress=log)

    def trials(self) -> list[Trial]:
        """Return all trials of this search so far."""
        names = [name for name in self.ledger.files() if "/" not in name and name.endswith(".json")]
        return [Trial.model_validate_json(self.ledger.read(name)) for name in names]

    def seconds(self) -> float:
        """Return the wall time of all sessions so far."""
        names = [name for name in self.ledger.files() if name.startswith("sessions/")]
        return sum(float(self.ledger.read(name)) for name in names)

    def save(self, trial: Trial) -> None:
        """Note a trial."""
        self.ledger.write(f"{trial.trial}.json", trial.model_dump_json(indent=1).encode())


class Reporter(TuneReportCallback):
    """Passes the numbers of a checkpoint on to Tune once there is a validation."""

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Called by Ray Train at every checkpoint."""
        if metrics[0].get("score") is not None:
            super().after_report(run_context, metrics, checkpoint)


def train(context: JobContext) -> RowCounts:
    """Train the student of a trial within a session of Tune. Its weights are not kept: the winner is trained anew."""
    counts = students.run(context, callbacks=[Reporter()])
    for part in ("model", adapter.FOLDER, adapter.BASE):
        (context.writer.folder / part).remove()
    return counts


def run_trial(config: dict[str, str | float | int], setup: SearchSetup) -> dict[str, Any]:
    """Run the trial of a point that the sampler has chosen, in a process of its own; return its last numbers."""
    context = setup.context(decoded(setup.search, config), lambda line: None)
    if not is_finished(context):
        run_job(context)
    artifact = context.artifact(context.job.name)
    measured = artifact.metrics(StudentMetrics)
    [best] = measured.seeds
    return {
        "score": -best.loss if best.metric is None else best.metric,
        "loss": best.loss,
        "metric": best.metric,
        "epochs": max(artifact.read("steps", STEP, ["epoch"])["epoch"].to_pylist()),
        "steps": measured.steps,
        "tokens": measured.tokens,
        "train_seconds": measured.seconds,
        "finished": True,
    }


class Notes(ray.tune.Callback):
    """Notes every trial in the ledger as it goes, in the driver, and the wall time of this session."""

    def __init__(self, setup: SearchSetup, progress: Callable[[str], None]) -> None:
        self.noted, self.progress = setup, progress
        self.trials: dict[str, Trial] = {}
        self.started, self.session = time.monotonic(), f"sessions/{time.time_ns()}"
        self.is_spent = False

    def __getstate__(self) -> dict[str, object]:
        """Return the state that Tune pickles, without the terminal. It is never read again."""
        return {**vars(self), "progress": None}

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Note that a trial begins."""
        values = decoded(self.noted.search, trial.config)
        self._note(trial, Trial(trial=self.noted.key(values), values=values))

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Note the numbers of a validation."""
        self._note(trial, self._measured(trial, result))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Note how a trial ended."""
        last = trial.last_result or {}
        status = "finished" if last.get("finished") else "budget" if self.is_spent else "killed"
        known = self._measured(trial, last) if last.get("score") is not None else self.trials[trial.trial_id]
        self._note(trial, known.model_copy(update={"status": status}))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Note why a trial failed."""
        lines = [line.strip() for line in str(trial.get_error() or "").splitlines() if line.strip()]
        update = {"status": "failed", "error": lines[-1][:500] if lines else "it died"}
        self._note(trial, self.trials[trial.trial_id].model_copy(update=update))

    def _measured(self, trial: Any, result: Mapping[str, Any]) -> Trial:
        before = self.trials[trial.trial_id]
        numbers = {name: result[name] for name in NUMBERS if name in result}
        is_better = before.score is None or result["score"] > before.score
        point = ((round(result.get("epochs", 0.0), 4), result["score"]),) if is_better else ()
        return before.model_copy(
            update={**numbers, "seconds": round(result.get("train_seconds", 0.0), 1), "curve": (*before.curve, *point)}
        )

    def _note(self, trial: Any, noted: Trial) -> None:
        self.trials[trial.trial_id] = noted
        self.noted.save(noted)
        self.noted.ledger.write(self.session, str(round(time.monotonic() - self.started, 1)).encode())
        score = "" if noted.score is None else f", score {noted.score:.4f} after {noted.epochs:.1f} epochs"
        self.progress(f"search/{self.noted.search.student}: {noted.trial[:8]} {noted.status}{score}")


class TokenLimit(Stopper):
    """Stops all trials once together they have learned as many target tokens as the budget has left."""

    def __init__(self, left: float, notes: Notes) -> None:
        self.left, self.notes = left, notes
        self.learned: dict[str, int] = {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Take the tokens of a trial; it alone is never stopped."""
        self.learned[trial_id] = result.get("tokens") or 0
        return False

    def stop_all(self) -> bool:
        """Return whether the budget is used up; what ends then was not behind."""
        self.notes.is_spent = sum(self.learned.values()) >= self.left
        return self.notes.is_spent


def tokens_left(budget: Budget, before: Sequence[Trial]) -> float:
    """Return the target tokens that the trials of a session may learn. One that was interrupted counts again as a whole: it goes on
    from its checkpoint, and so does its count."""
    if budget.target_tokens is None:
        return math.inf
    return budget.target_tokens - sum(trial.tokens for trial in before if trial.status != "running")


def run_trials(setup: SearchSetup, *, at_once: int, progress: Callable[[str], None]) -> None:
    """Run trials until the budget of the search is used up; Ray must run. Trials of earlier sessions count."""
    search, before = setup.search, setup.trials()
    budget, ended = search.budget, [trial for trial in before if trial.status != "running"]
    seconds = math.inf if budget.seconds is None else budget.seconds - setup.seconds()
    tokens = tokens_left(budget, before)
    left = budget.trials - len(ended)
    if left <= 0 or seconds <= 0 or tokens <= 0:
        return
    notes = Notes(setup, progress)
    interrupted = [encoded(search, trial.values) for trial in before if trial.status == "running"]
    with TemporaryDirectory(prefix="rayleigh-tune-") as scratch:
        ray.tune.Tuner(
            ray.tune.with_resources(ray.tune.with_parameters(run_trial, setup=setup), LITTLE),
            tune_config=ray.tune.TuneConfig(
                metric="score",
                mode="max",
                search_alg=Sampler(distributions(search), seed=search.seed, ended=_points(search, ended), first=interrupted),
                scheduler=_scheduler(search),
                num_samples=left,
                max_concurrent_trials=at_once,
                time_budget_s=None if math.isinf(seconds) else seconds,
            ),
            run_config=ray.tune.RunConfig(
                name=setup.base, storage_path=scratch, callbacks=[notes], stop=TokenLimit(tokens, notes), verbose=0
            ),
        ).fit()
    for trial in notes.trials.values():
        if trial.status == "running":
            setup.save(trial.model_copy(update={"status": "budget"}))


def _scheduler(search: Search) -> ASHAScheduler | FIFOScheduler:
    kill = search.early_kill
    if kill is None:
        return FIFOScheduler()
    return ASHAScheduler(time_attr="epochs", max_t=LONGEST, grace_period=kill.grace, reduction_factor=kill.reduction)


def _points(search: Search, ended: Sequence[Trial]) -> list[tuple[dict[str, Any], float | None]]:
    """Return the point of each trial with its score; None for one that has none. Of a killed trial it is the best so far."""
    return [(encoded(search, trial.values), trial.score) for trial in ended]
