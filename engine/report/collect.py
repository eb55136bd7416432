"""Finished artifacts in, Facts out. Reads shard by shard, column by column; what it keeps is bounded."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.report import row_counts
from engine.report.facts import Counts, Facts
from engine.report.labels import clip
from engine.report.sampling import interleave, keep_first, pieces, within
from engine.rows import POOLS
from engine.storage.artifact import Artifact

SAMPLES, POINTS, PROMPTS, PAIRS, STEPS = 198, 2_000, 200, 3, 400
BUDGET = 450_000  # bytes of JSON for each of samples, points and predictions: the page stays under 2 MB

LINEAGE = [
    "answer_id", "prompt_id", "task_unit", "text", "layer", "difficulty", "scenario", "source", "line", "licence", "redacted",
    "teacher", "sample", "seed", "answer", "finish_reason", "tokens_in", "tokens_out", "error", "checks", "agreement", "judge", "score",
    "confidence", "dimension_scores", "rubric_spread", "judge_decides", "pool", "reasons",
]  # fmt: skip
PLACE = ["prompt_id", "answer_id", "x", "y", "cluster", "pool", "dropped_by", "duplicate_of", "text", "layer"]


def gather(
    artifacts: dict[str, Artifact], *, report: dict[str, Any], contract: dict[str, Any], predictions: pa.Table | None
) -> Facts:
    """Return what the page shows.

    `artifacts` are by job: `prompts`, `candidates`, `dataset`, `students/<name>`; any may be missing. `predictions` has
    PREDICTION rows.
    """
    return Facts(
        run=str(report.get("run") or ""),
        created=str(report.get("created") or ""),
        report=report,
        contract=contract,
        jobs=[artifact.record.model_dump(mode="json") for artifact in artifacts.values()],
        counts=_counts(artifacts),
        splits=row_counts.count_values(pieces(artifacts, "dataset", "examples", ["split"]), "split"),
        points=_points(artifacts),
        pairs=_answer_pairs(artifacts) | _prompt_pairs(artifacts),
        samples=_samples(artifacts),
        steps=_steps(artifacts),
        predictions=_predictions(predictions),
    )


def _counts(artifacts: dict[str, Artifact]) -> Counts:
    picked = row_counts.count_answers(pieces(artifacts, "dataset", "picked", row_counts.COLUMNS + row_counts.PICK_COLUMNS))
    return picked if picked.answers else row_counts.count_answers(pieces(artifacts, "candidates", "candidates", row_counts.COLUMNS))


def _samples(artifacts: dict[str, Artifact]) -> list[dict[str, Any]]:
    chosen = {"order": ["pool", "answer_id"], "count": SAMPLES // len(POOLS)}
    grown = [*LINEAGE, "cluster", "dropped_by", "duplicate_of", "similarity"]
    table = keep_first(pieces(artifacts, "dataset", "picked", grown), **chosen)
    if table is None:
        table = keep_first(pieces(artifacts, "candidates", "candidates", LINEAGE), **chosen)
    if table is None:
        return []
    splits = _splits(artifacts, table["answer_id"])
    rows = [{**row, "split": splits.get(row["answer_id"])} for row in table.to_pylist()]
    for row in rows:
        row.update(text=clip(row["text"], 1500), answer=clip(row["answer"], 1000), error=clip(row["error"], 300))
        row["checks"] = [{**check, "detail": clip(check["detail"], 200)} for check in row["checks"] or ()]
    return within(interleave(rows, "pool"), BUDGET)


def _splits(artifacts: dict[str, Artifact], ids: pa.ChunkedArray) -> dict[str, str]:
    """The split of those answers that became examples."""
    found: dict[str, str] = {}
    for part in pieces(artifacts, "dataset", "examples", ["example_id", "split"]):
        part = part.filter(pc.is_in(part["example_id"], value_set=ids.combine_chunks()))
        found.update(zip(part["example_id"].to_pylist(), part["split"].to_pylist(), strict=True))
    return found


def _points(artifacts: dict[str, Artifact]) -> list[dict[str, Any]]:
    """One point a prompt: its kept answer, else one that lost to another prompt, else any."""
    parts = pieces(artifacts, "dataset", "picked", PLACE)
    table = keep_first((_ranked(part) for part in parts), ["prompt_id", "rank", "answer_id"], count=1, limit=POINTS)
    if table is None:
        return []
    where = {answer: index for index, answer in enumerate(table["answer_id"].to_pylist())}
    rows = [
        {
            "x": round(row["x"], 4), "y": round(row["y"], 4), "c": row["cluster"], "p": row["pool"], "d": row["dropped_by"],
            "r": where.get(row["duplicate_of"], -1), "l": row["layer"], "t": clip(row["text"], 180),
        }
        for row in table.to_pylist()
    ]  # fmt: skip
    kept = within(rows, BUDGET)
    return [{**row, "r": row["r"] if row["r"] < len(kept) else -1} for row in kept]


def _ranked(part: pa.Table) -> pa.Table:
    part = part.filter(pc.and_(pc.is_valid(part["x"]), pc.is_valid(part["y"])))
    drop = part["dropped_by"].to_pylist()
    rank = [0 if not why else 2 if why in ("sample", "pool") else 1 for why in drop]
    return part.append_column("rank", pa.array(rank, pa.int8()))


def _answer_pairs(artifacts: dict[str, Artifact]) -> dict[str, list[dict[str, Any]]]:
    """Answers that curation dropped, beside the answers they lost to."""
    return _pairs(artifacts, lost=("dataset", "picked"), won=[("dataset", "picked")], columns=["answer_id", "text", "answer"])


def _prompt_pairs(artifacts: dict[str, Artifact]) -> dict[str, list[dict[str, Any]]]:
    """Prompts that were copies, beside what they are copies of."""
    won = [("prompts", "prompts"), ("prompts", "holdout"), ("prompts", "dropped")]
    return _pairs(artifacts, lost=("prompts", "dropped"), won=won, columns=["prompt_id", "text"])


def _pairs(
    artifacts: dict[str, Artifact], *, lost: tuple[str, str], won: list[tuple[str, str]], columns: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """Drop reason -> the first few rows of the table `lost` with the row of a table of `won` that `rep_id` names."""
    key = columns[0]
    losers = pieces(artifacts, *lost, [*columns, "dropped_by", "duplicate_of", "similarity"])
    named = (part.filter(pc.not_equal(pc.fill_null(part["duplicate_of"], ""), "")) for part in losers)
    table = keep_first(named, ["dropped_by", key], count=PAIRS)
    if table is None:
        return {}
    winners: dict[str, dict[str, Any]] = {}
    for job, name in won:
        for part in pieces(artifacts, job, name, columns):
            part = part.filter(pc.is_in(part[key], value_set=table["duplicate_of"].combine_chunks()))
            winners.update({row[key]: row for row in part.to_pylist()})
    pairs: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        winner = winners.get(row["duplicate_of"], {})
        said = {"text": clip(row["text"], 600), "answer": clip(row.get("answer"), 300)}
        said |= {"won_text": clip(winner.get("text"), 600), "won_answer": clip(winner.get("answer"), 300)}
        pairs.setdefault(row["dropped_by"], []).append(
            {"duplicate_of": row["duplicate_of"], "similarity": row["similarity"], **said}
        )
    return pairs


def _steps(artifacts: dict[str, Artifact]) -> dict[str, list[dict[str, Any]]]:
    """Every validation, and optimizer steps thinned to about STEPS."""
    found = {}
    for job in artifacts:
        if not job.startswith("students/"):
            continue
        parts = list(pieces(artifacts, job, "steps", ["student", "step", "epoch", "split", "loss", "tokens", "seconds"]))
        rows = pa.concat_tables(parts).sort_by("step").to_pylist() if parts else []
        train = [row for row in rows if row["split"] == "train"]
        thin = max(1, -(-len(train) // STEPS))
        found[job.partition("/")[2]] = train[::thin] + [row for row in rows if row["split"] != "train"]
    return found


def _predictions(table: pa.Table | None) -> list[dict[str, Any]]:
    if table is None or not table.num_rows:
        return []
    prompts: dict[str, dict[str, Any]] = {}
    for row in table.sort_by([("prompt_id", "ascending"), ("model", "ascending")]).to_pylist():
        about = {name: row[name] for name in ("prompt_id", "layer", "difficulty", "scenario", "seen")}
        prompt = prompts.setdefault(
            row["prompt_id"], {**about, "text": clip(row["text"], 1500), "reference": clip(row["reference"], 600)}
        )
        said = {name: row[name] for name in ("role", "finish_reason", "confidence", "seconds", "valid", "exact")}
        prompt.setdefault("models", {})[row["model"]] = {**said, "answer": clip(row["answer"], 600)}
        if len(prompts) > PROMPTS:
            prompts.popitem()
            break
    return within(prompts.values(), BUDGET)
