"""`rayleigh compare RUN RUN...`: the first run beside each of the others; `engine/records/comparison.py` documents `--json`.

Contracts are those that the runs store, with the names of today's keys, so a renamed key or a default is no difference. Nothing is
written but the page that is asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import duckdb
import pyarrow as pa

from engine.comparison.jobs import job_changes
from engine.comparison.keys import key_changes
from engine.comparison.models import COLUMNS, Evaluated, compare_models
from engine.comparison.summary import summary
from engine.comparison.tables import Tables
from engine.errors import InputError
from engine.inference.spending import costs
from engine.inference.token_budget import JUDGE_TOKENS, TEACHER_TOKENS, tokens_in
from engine.records.comparison import Comparison, CostsCompared, JobChange, ModelsCompared, RunHead, RunPair
from engine.records.report import Report
from engine.rows import HOLDOUT, PREDICTION
from engine.storage.artifact import Artifact
from engine.storage.folder import Folder
from jobs import workspace
from jobs.commands.sql import dataset, finished, run_names
from jobs.pipeline import pipeline
from jobs.steps.verdict import cluster_labels
from jobs.workspace import Workspace

TABLES = {"prompts": ("prompts", "holdout", "dropped"), "candidates": ("candidates",), "dataset": ("picked", "examples")}
"""Job -> tables of it that are compared."""


class Opened(NamedTuple):
    """One run."""

    name: str
    work: Workspace
    artifacts: Mapping[str, Artifact]


def compare(runs: Sequence[str]) -> Comparison:
    """Return the first of `runs` beside each of the others.

    Raises:
        InputError: fewer than two runs, or one twice.
        MissingArtifact: no run is in a folder, or no job of it has finished.
    """
    if len(runs) < 2:
        raise InputError(f"compare: found {len(runs)} run, expected at least two: rayleigh compare RUN RUN")
    opened = [_open(name, run) for name, run in zip(run_names(runs), runs, strict=True)]
    return Comparison(runs=tuple(map(_head, opened)), pairs=tuple(_pair(opened[0], other) for other in opened[1:]))


def _open(name: str, run: str) -> Opened:
    work = workspace.reopen(run)
    return Opened(name, work, finished(run))


def _head(run: Opened) -> RunHead:
    created = workspace.read_run(run.work.folder).created
    names = tuple(run.artifacts)
    return RunHead(name=run.name, folder=str(run.work.folder), contract=run.work.contract.name, created=created, finished=names)


def _pair(before: Opened, after: Opened) -> RunPair:
    old, new = (run.work.contract.model_dump(mode="json") for run in (before, after))
    jobs = job_changes(before.artifacts, after.artifacts, [*_order(before, after)])
    have = {job for job in TABLES if job in before.artifacts and job in after.artifacts}
    with TemporaryDirectory(prefix="rayleigh-compare-") as migrated, duckdb.connect(":memory:") as connection:
        for side, run in {"before": before, "after": after}.items():
            for job in have:
                for table in TABLES[job]:
                    connection.register(f"{table}_{side}", _table(run.artifacts[job], table, f"{migrated}/{side}"))
        connection.execute("set enable_progress_bar = false")  # it is printed to stdout, into --json
        tables = Tables(connection)
        pair = RunPair(
            before=before.name,
            after=after.name,
            summary=(),
            contract=tuple(key_changes(old, new)),
            jobs=tuple(jobs),
            prompts=tables.prompts() if "prompts" in have else None,
            answers=tables.answers() if "candidates" in have else None,
            pools=tables.pools() if "candidates" in have else None,
            dataset=tables.dataset() if "dataset" in have else None,
            models=_models(before, after),
            costs=_costs(before, after, jobs) if "candidates" in have else None,
        )
    return pair.model_copy(update={"summary": tuple(summary(pair))})


def _order(before: Opened, after: Opened) -> Iterator[str]:
    """Yield the jobs of both pipelines, each once, in their order."""
    yield from dict.fromkeys(job.name for run in (before, after) for job in pipeline(run.work.contract))


def _table(artifact: Artifact, name: str, migrated: str) -> "pa.dataset.Dataset | pa.Table":
    """Return a table as an Arrow dataset; without rows if the artifact has none, as those of an earlier version."""
    from engine.rows import TABLES as SCHEMAS

    if name not in artifact.record.tables or not artifact.table(name).shards:
        return SCHEMAS[name].empty_table()
    Path(migrated).mkdir(exist_ok=True)
    return dataset(artifact, name, migrated=migrated)


def _models(before: Opened, after: Opened) -> ModelsCompared | None:
    if not all("reports" in run.artifacts for run in (before, after)):
        return None
    evaluated = [
        Evaluated(
            workspace.read_model(run.work.folder, "reports/report.json", Report),
            run.artifacts["reports"].read("predictions", PREDICTION, COLUMNS),
        )
        for run in (before, after)
    ]
    section = before.work.contract.evaluation
    clusters: dict[str, object] = {}
    for run in (before, after):
        rows = run.artifacts["prompts"].read("holdout", HOLDOUT).to_pylist()
        labels = cluster_labels(rows, section.cluster)
        clusters |= {row["prompt_id"]: label for row, label in zip(rows, labels, strict=True)}
    return compare_models(evaluated[0], evaluated[1], clusters, level=section.level)


def _costs(before: Opened, after: Opened, jobs: Sequence[JobChange]) -> CostsCompared:
    runs = (before, after)
    prices = [run.work.contract.budget.price for run in runs]
    teachers = []
    for run, price in zip(runs, prices, strict=True):
        picked = run.artifacts["dataset"].record.metrics if "dataset" in run.artifacts else {}
        teachers.append({cost.teacher: cost for cost in costs(run.artifacts["candidates"].record.metrics, picked, price)})
    seconds = [{name: round(artifact.record.seconds, 1) for name, artifact in run.artifacts.items()} for run in runs]
    return CostsCompared(
        currency=(prices[0].currency, prices[1].currency),
        teachers={name: (teachers[0].get(name), teachers[1].get(name)) for name in dict.fromkeys([*teachers[0], *teachers[1]])},
        paid=(_paid(before, TEACHER_TOKENS), _paid(after, TEACHER_TOKENS)),
        judge_paid=(_paid(before, JUDGE_TOKENS), _paid(after, JUDGE_TOKENS)),
        seconds={job.job: (seconds[0].get(job.job), seconds[1].get(job.job)) for job in jobs if job.state != "in neither"},
    )


def _paid(run: Opened, kind: str) -> int:
    return tokens_in(run.work.folder / "ledger" / kind)


def write_page(comparison: Comparison, path: str) -> None:
    """Write the comparison as one self-contained HTML file, whole or not at all; a page that was written before is replaced.

    Raises:
        InputError: `path` does not end in .html, or is a folder.
    """
    from engine.report.comparison_page import comparison_page

    target = Path(path)
    if target.suffix != ".html" or target.is_dir():
        raise InputError(f"--page {path}: expected a file that ends in .html.")
    Folder(str(target.absolute().parent)).write(target.name, comparison_page(comparison).encode())
