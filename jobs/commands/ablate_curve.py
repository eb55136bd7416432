"""`rayleigh ablate --curve`: the learning curve over data, by training one recipe on a quarter, half and all of the examples.

Each seed draws its own examples, so that the intervals hold the variance of the draw, too. The law and what twice the data would
bring: `engine/evaluation/curve.py`. `RUN/ablation/curve.json`, and `--json`, hold a `LearningCurve`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.evaluation.curve import LAW, SHARES, draw, fit
from engine.evaluation.decompose import answer_key, num_clusters
from engine.records.ablation import Training
from engine.records.curve import CurvePoint, LearningCurve
from engine.records.estimate import Estimate
from engine.rows import EXAMPLE, content_id
from engine.runs.job import JobContext
from engine.stats.crossed import crossed_mean
from engine.storage.artifact import Artifact, RowCounts
from engine.storage.shards import iterate
from jobs import workspace
from jobs.commands.ablate_trainings import (
    ABLATION,
    Sets,
    answers_by_seed,
    exact_by_seed,
    prepared,
    scenarios,
    smallest,
    teacher_errors,
    train,
)  # fmt: skip
from jobs.terminal.console import columns, interval
from jobs.workspace import Workspace

RESULT = f"{ABLATION}/curve.json"
MAKE = "jobs.commands.ablate_curve:examples"


def ablate(run: str, *, student: str | None, seeds: int, epochs: int | None = None, profile: str | None = None) -> LearningCurve:
    """Train `student`, by default the smallest one, `seeds` times on each share of the examples of `run`, and fit the curve.

    Raises:
        InputError: the contract has no such student.
        MissingArtifact: the run has no dataset yet.
    """
    work = workspace.reopen(run)
    student = student or smallest(work)
    work = prepared(work, student, seeds, epochs, profile)
    dataset = workspace.finished(work.folder, "dataset")
    ids = example_ids(dataset)
    sets = {share: _sets(ids, share, seeds) for share in SHARES}
    with workspace.locked(work.folder):
        train(work, [plan for each in sets.values() for plan in each.plans(work.contract.students)])
        result = _curve(work, student, dataset, {share: exact_by_seed(work, each) for share, each in sets.items()})
        result = _with_bias(work, result, [answers_by_seed(work, each) for each in sets.values()])
        work.folder.write(RESULT, result.model_dump_json(indent=1).encode())
    return result


def examples(context: JobContext) -> RowCounts:
    """Write the examples that one seed has drawn."""
    dataset = context.artifact("dataset")
    folder = context.job.name.rpartition("/")[0]
    ids, seeds = example_ids(dataset), len(context.contract.students)
    sets = [(share, _sets(ids, share, seeds)) for share in SHARES]
    share, seed = next((share, seed) for share, each in sets for seed in range(seeds) if each.prefix(seed) == folder)
    chosen = draw(ids, share, seed)
    pieces = iterate(dataset.folder / "examples", dataset.table("examples"))
    table = pa.concat_tables([piece.filter(pc.is_in(piece["example_id"], pa.array(chosen))) for piece in pieces])
    context.writer.put("examples", table, EXAMPLE)
    return RowCounts(len(chosen), {"learnt": len(table)})


def example_ids(dataset: Artifact) -> list[str]:
    """Return the ids of the examples of the artifact `dataset`."""
    pieces = iterate(dataset.folder / "examples", dataset.table("examples"), ["example_id"])
    return [example for piece in pieces for example in piece["example_id"].to_pylist()]


def _sets(ids: list[str], share: float, seeds: int) -> Sets:
    digests = tuple(content_id(*draw(ids, share, seed)) for seed in range(seeds))
    return Sets(f"curve {100 * share:g}", MAKE, digests, is_whole=share == 1)


def _curve(work: Workspace, student: str, dataset: Artifact, found: dict[float, np.ndarray]) -> LearningCurve:
    clusters, level = scenarios(work), work.contract.evaluation.level
    total = dataset.table("examples").rows
    points = []
    for share, cells in found.items():
        measured = crossed_mean(cells, clusters)
        runs = [Training(seed=seed, exact_match=round(float(row.mean()), 6)) for seed, row in enumerate(cells)]
        points.append(
            CurvePoint(share=share, examples=round(share * total), runs=runs, exact_match=measured and measured.interval(level))
        )
    fitted = fit([point.examples for point in points], list(found.values()), clusters, level=level)
    law: dict[str, object] = {"why": fitted} if isinstance(fitted, str) else {**fitted._asdict(), "next_examples": 2 * total}
    curve = LearningCurve(
        run=str(work.folder),
        student=student,
        seeds=len(work.contract.students),
        epochs=work.contract.students[0].epochs,
        dataset=dataset.fingerprint,
        prompts=len(clusters),
        clusters=num_clusters(clusters),
        level=level,
        points=points,
        law=LAW,
    )
    return curve.model_copy(update=law)


def _with_bias(work: Workspace, curve: LearningCurve, answers: list[list[list[str]]]) -> LearningCurve:
    """Return the curve with the share of the teacher's errors that its students make, too.

    `answers` are those of each share, seed and prompt.
    """
    errors = {index: answer_key(answer) for index, answer in teacher_errors(work).items()}
    clusters = [scenario for index, scenario in enumerate(scenarios(work)) if index in errors]
    shared = [
        np.array([[answer_key(seed[index]) == wrong for index, wrong in errors.items()] for seed in seeds], np.float64)
        for seeds in answers
    ]
    means = [crossed_mean(cells, clusters) if errors else None for cells in shared]
    growth = crossed_mean(shared[-1] - shared[0], clusters) if errors and curve.seeds > 1 else None
    points = [
        point.model_copy(update={"errors_shared": mean and mean.interval(curve.level)})
        for point, mean in zip(curve.points, means, strict=True)
    ]
    return curve.model_copy(update={"points": points, "bias_growth": growth and growth.interval(curve.level)})


def as_text(curve: LearningCurve) -> str:
    """Return a table with a line per share, and what twice the data would bring."""
    on = f"{curve.prompts} prompts of {curve.clusters} scenarios"
    head = f"student {curve.student}, {curve.seeds} seeds, {curve.epochs} epochs, {on}"
    rows = [
        [f"{100 * each.share:g} %", each.examples, *map(interval, (each.exact_match, each.errors_shared)), _by_seed(each)]
        for each in curve.points
    ]
    table = columns(rows, head=["share", "examples", "exact match", "teacher's errors", "by seed"])
    if curve.next_gain is None or curve.flattening is None:
        return f"{head}\n\n{table}\n\nThe law could not be fitted: {curve.why}."
    gain, bend = curve.next_gain, curve.flattening
    lines = [
        f"law        {curve.law}: b = {curve.exponent:.3f}",
        f"next       {curve.next_examples} examples would bring {_signed(gain)} exact match",
        f"flattening {_signed(bend)}; above 0, the law promises too much",
    ]
    return "\n".join([head, "", table, "", *lines])


def _by_seed(point: CurvePoint) -> str:
    return " ".join(f"{each.exact_match:.3f}" for each in point.runs)


def _signed(each: Estimate) -> str:
    return f"{each.value:+.3f} ({each.low:+.3f} to {each.high:+.3f})"
