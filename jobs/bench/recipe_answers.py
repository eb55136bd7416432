"""The jobs of `rayleigh bench recipe` that let models answer the mails: each student in all ways on one engine, a teacher once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from engine.contract.specialist import TaskUnit
from engine.errors import ModelError
from engine.evaluation import flow
from engine.evaluation.answers import EvalLedger
from engine.evaluation.evaluator import EvalTarget, Evaluated
from engine.evaluation.predict import predictions
from engine.inference.crash_isolation import MARKERS
from engine.records.base import Record
from engine.rows import HOLDOUT, PREDICTION, Row
from engine.runs.job import JobContext
from engine.storage.artifact import Artifact, RowCounts
from jobs.bench.recipe_table import WAYS, Way
from jobs.steps import reports

BATCH = 256  # mails of one call: the engine fills its places anew as sequences end, and a call's last ones run in few places


class TeacherSizes(Record):
    """What was seen of the teachers."""

    parameters: dict[str, int | None]
    """Teacher -> its parameters."""


def student(context: JobContext) -> RowCounts:
    """Let the student of the contract answer each mail in each of WAYS.

    Raises:
        ModelError: it cannot be loaded, or its engine died.
    """
    mails, model = (context.artifact(name) for name in context.job.needs)
    units = {unit.name: unit for unit in context.contract.specialist.task_units}
    name, folder = context.contract.students[0].name, f"{model.folder}/model"
    served = reports.trained(context, context.contract, name, role="student", folder=folder, units=units)
    targets = in_ways(served)
    rows = mails.read("holdout", HOLDOUT).to_pylist()
    found = flow.evaluate_alike(list(targets.values()), rows, context.profile, ledger=_ledger(context))
    ended = Counter[str]()
    for (way, target), each in zip(targets.items(), found, strict=True):
        ended += _put(context, way, target, (rows, each), reports.scenarios(mails))
    return RowCounts(len(WAYS) * len(rows), dict(ended))


def in_ways(served: EvalTarget) -> dict[Way, EvalTarget]:
    """Return `served`, which decodes as its contract says, in each of WAYS."""
    units = {name: _without_spans(unit) for name, unit in served.units.items()}
    return {"served": served, "schema": replace(served, units=units), "free": replace(served, structured=False)}


def _without_spans(unit: TaskUnit) -> TaskUnit:
    return unit.model_copy(update={"output": unit.output.model_copy(update={"spans": {}})})


def teachers(context: JobContext) -> RowCounts:
    """Let each teacher of the contract answer each mail as it is served; one table for each.

    Raises:
        ModelError: one cannot be loaded, or its engine died.
    """
    mails = context.artifact(context.job.needs[0])
    rows = mails.read("holdout", HOLDOUT).to_pylist()
    targets, ended, sizes = list(reports.teachers(context)), Counter[str](), dict[str, int | None]()
    for target in targets:
        [each] = flow.evaluate_alike([target], rows, context.profile, ledger=_ledger(context))
        ended += _put(context, target.name, target, (rows, each), reports.scenarios(mails))
        sizes[target.name] = each.size.parameters
    context.writer.metrics = TeacherSizes(parameters=sizes)
    return RowCounts(len(targets) * len(rows), dict(ended))


def _put(
    context: JobContext, table: str, target: EvalTarget, answered: tuple[Sequence[Row], Evaluated], seen: set[str]
) -> Counter[str]:
    """Write PREDICTION rows as `table`; return how the answers ended."""
    rows, each = answered
    if each.error:
        raise ModelError(f"{context.job.name}: {each.error}")
    found = predictions(target, rows, each, scenarios=seen, final=reports.final)
    context.writer.put(table, found, PREDICTION)
    right = sum(value or 0 for value in found["exact"].to_pylist())
    context.log(f"{context.job.name}: {table}: {right} of {len(rows)} right")
    return Counter(completion.finish_reason for completion in each.completions)


def _ledger(context: JobContext) -> EvalLedger:
    """Return a ledger of this job's own: several run at the same time, and the marks of one's crash are none of another's."""
    own = context.ledger / context.job.name
    (own / MARKERS / "evaluation").remove()  # deaths of an earlier attempt are none of this one
    return EvalLedger(rows=own / "rows", own=own)


def read(artifact: Artifact, table: str) -> list[Row]:
    """Return the answers of a table as PREDICTION rows, ordered by mail."""
    columns = ["prompt_id", "scenario", "seen", "exact", "valid"]
    return artifact.read(table, PREDICTION, columns).sort_by("prompt_id").to_pylist()
