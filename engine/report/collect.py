"""Collects the page's data from finished artifacts: shard by shard, only the columns needed, bounded in memory."""

from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from engine.records.base import Json
from engine.records.report import Report
from engine.report import row_counts
from engine.report.labels import clip
from engine.report.page_data import Counts, DroppedPair, LossPoint, MapPoint, PageData
from engine.report.sampling import interleave, keep_first, pieces, within
from engine.rows import POOLS, STEP, Row
from engine.storage.artifact import Artifact

SAMPLES, POINTS, PROMPTS, PAIRS, STEPS = 198, 2_000, 200, 3, 400
BUDGET = 450_000  # bytes of JSON for each of samples, points and predictions: the page stays under 2 MB

SAMPLE_COLUMNS = [
    "answer_id", "prompt_id", "task_unit", "text", "layer", "difficulty", "scenario", "source", "line", "licence", "redacted",
    "teacher", "sample", "seed", "answer", "finish_reason", "tokens_in", "tokens_out", "error", "checks", "agreement", "judge",
    "score", "confidence", "dimension_scores", "rubric_spread", "judge_decides", "pool", "reasons",
]  # fmt: skip
MAP_COLUMNS = ["prompt_id", "answer_id", "x", "y", "cluster", "pool", "dropped_by", "duplicate_of", "text", "layer"]

Artifacts = dict[str, Artifact]


def collect(artifacts: Artifacts, *, report: Report, contract: Json, predictions: pa.Table | None) -> PageData:
    """Return the data of the page.

    `artifacts` are by job: `prompts`, `candidates`, `dataset`, `students/<name>`; any may be missing. `predictions` has
    PREDICTION rows.
    """
    return PageData(
        run=report.run,
        created=report.created,
        report=report,
        contract=contract,
        jobs=[artifact.record for artifact in artifacts.values()],
        counts=_counts(artifacts),
        splits=row_counts.count_values(pieces(artifacts, "dataset", "examples", ["split"]), "split"),
        points=_points(artifacts),
        pairs=_pairs(artifacts, ("dataset", "picked"), ["picked"], ["answer_id", "text", "answer"])
        | _pairs(artifacts, ("prompts", "dropped"), ["prompts", "holdout", "dropped"], ["prompt_id", "text"]),
        samples=_samples(artifacts),
        steps=_steps(artifacts),
        predictions=_predictions(predictions),
    )


def _counts(artifacts: Artifacts) -> Counts:
    picked = row_counts.count_answers(pieces(artifacts, "dataset", "picked", row_counts.COLUMNS + row_counts.PICK_COLUMNS))
    return picked if picked.answers else row_counts.count_answers(pieces(artifacts, "candidates", "candidates", row_counts.COLUMNS))


def _samples(artifacts: Artifacts) -> list[Row]:
    order, count = ["pool", "answer_id"], SAMPLES // len(POOLS)
    columns = [*SAMPLE_COLUMNS, "cluster", "dropped_by", "duplicate_of", "similarity"]
    table = keep_first(pieces(artifacts, "dataset", "picked", columns), order, count=count)
    if table is None:
        table = keep_first(pieces(artifacts, "candidates", "candidates", SAMPLE_COLUMNS), order, count=count)
    if table is None:
        return []
    splits = _splits(artifacts, table["answer_id"])
    rows = [{**row, "split": splits.get(row["answer_id"])} for row in table.to_pylist()]
    for row in rows:
        row.update(text=clip(row["text"], 1500), answer=clip(row["answer"], 1000), error=clip(row["error"], 300))
        row["checks"] = [{**check, "detail": clip(check["detail"], 200)} for check in row["checks"] or ()]
    return within(interleave(rows, "pool"), BUDGET)


def _splits(artifacts: Artifacts, ids: pa.ChunkedArray) -> dict[str, str]:
    """Return answer_id -> split of those answers that became examples."""
    splits: dict[str, str] = {}
    for part in pieces(artifacts, "dataset", "examples", ["example_id", "split"]):
        part = part.filter(pc.is_in(part["example_id"], value_set=ids.combine_chunks()))
        splits.update(zip(part["example_id"].to_pylist(), part["split"].to_pylist(), strict=True))
    return splits


def _points(artifacts: Artifacts) -> list[MapPoint]:
    """Return one point per prompt: its kept answer, else one that lost to another prompt's, else any."""
    parts = pieces(artifacts, "dataset", "picked", MAP_COLUMNS)
    table = keep_first((_ranked(part) for part in parts), ["prompt_id", "rank", "answer_id"], count=1, limit=POINTS)
    if table is None:
        return []
    index_of = {answer: index for index, answer in enumerate(table["answer_id"].to_pylist())}
    points = [
        MapPoint(
            x=round(row["x"], 4), y=round(row["y"], 4), cluster=row["cluster"], pool=row["pool"], dropped_by=row["dropped_by"],
            duplicate_of=index_of.get(row["duplicate_of"], -1), layer=row["layer"], text=clip(row["text"], 180),
        )
        for row in table.to_pylist()
    ]  # fmt: skip
    kept = within(points, BUDGET)
    return [point._replace(duplicate_of=point.duplicate_of if point.duplicate_of < len(kept) else -1) for point in kept]


def _ranked(part: pa.Table) -> pa.Table:
    part = part.filter(pc.and_(pc.is_valid(part["x"]), pc.is_valid(part["y"])))
    ranks = [0 if not why else 2 if why in ("sample", "pool") else 1 for why in part["dropped_by"].to_pylist()]
    return part.append_column("rank", pa.array(ranks, pa.int8()))


def _pairs(artifacts: Artifacts, dropped: tuple[str, str], kept: list[str], columns: list[str]) -> dict[str, list[DroppedPair]]:
    """Return drop reason -> the first few rows of the job and table `dropped`, with the rows of the tables `kept` of this job that
    they duplicate."""
    key = columns[0]
    parts = pieces(artifacts, *dropped, [*columns, "dropped_by", "duplicate_of", "similarity"])
    duplicates = (part.filter(pc.not_equal(pc.fill_null(part["duplicate_of"], ""), "")) for part in parts)
    table = keep_first(duplicates, ["dropped_by", key], count=PAIRS)
    if table is None:
        return {}
    originals: dict[str, Row] = {}
    for part in chain.from_iterable(pieces(artifacts, dropped[0], name, columns) for name in kept):
        part = part.filter(pc.is_in(part[key], value_set=table["duplicate_of"].combine_chunks()))
        originals.update({row[key]: row for row in part.to_pylist()})
    pairs: dict[str, list[DroppedPair]] = {}
    for row in table.to_pylist():
        original = originals.get(row["duplicate_of"], {})
        texts = [clip(side.get(name), limit) for side in (row, original) for name, limit in (("text", 600), ("answer", 300))]
        pairs.setdefault(row["dropped_by"], []).append(DroppedPair(row["duplicate_of"], row["similarity"], *texts))
    return pairs


def _steps(artifacts: Artifacts) -> dict[str, list[LossPoint]]:
    """Return every validation, and about STEPS evenly spaced optimizer steps per student, of the seed that is exported."""
    steps = {}
    for job in artifacts:
        if not job.startswith("students/"):
            continue
        parts = list(pieces(artifacts, job, "steps", [*LossPoint._fields, "seed"]))
        table = pa.concat_tables(parts).sort_by("step") if parts else STEP.empty_table()
        seed = pa.scalar(artifacts[job].record.metrics.get("seed"), pa.int64())
        of_seed = pc.fill_null(pc.equal(table["seed"], seed), True)  # null: there is one seed only
        rows = [LossPoint(**row) for row in table.filter(of_seed).select([*LossPoint._fields]).to_pylist()]
        train = [row for row in rows if row.split == "train"]
        stride = max(1, -(-len(train) // STEPS))
        steps[job.partition("/")[2]] = train[::stride] + [row for row in rows if row.split != "train"]
    return steps


def _predictions(table: pa.Table | None) -> list[Row]:
    if table is None or not table.num_rows:
        return []
    prompts: dict[str, Row] = {}
    for row in table.sort_by([("prompt_id", "ascending"), ("model", "ascending")]).to_pylist():
        prompt = prompts.setdefault(
            row["prompt_id"],
            {
                **{name: row[name] for name in ("prompt_id", "layer", "difficulty", "scenario", "seen")},
                "text": clip(row["text"], 1500),
                "reference": clip(row["reference"], 600),
                "models": {},
            },
        )
        columns = ("role", "finish_reason", "confidence", "seconds", "valid", "exact")
        prompt["models"][row["model"]] = {**{name: row[name] for name in columns}, "answer": clip(row["answer"], 600)}
        if len(prompts) > PROMPTS:
            prompts.popitem()
            break
    return within(prompts.values(), BUDGET)
