"""The funnel from source rows to examples: rows in and out of every job, and boxes and bands of the Sankey diagram."""

from typing import NamedTuple

from engine.records.record import ArtifactRecord
from engine.report.labels import TIMES, count, meaning
from engine.report.page_data import Counts, Outcome, PageData, Stage
from engine.rows import DROPPED_BY, POOLS

SHORT = {"": "examples", "pool": "pool not used", "sample": "other samples", "quota": "over quota"}
UNITS = {
    "prompts": "source rows",
    "candidates": "answers",
    "dataset": "judged answers",
    "tokens": "examples",
    "students": "examples",
    "reports": "answers",
}
ON = {  # job -> labels of the rows that go on to the next job
    "prompts": ("prompts",),
    "candidates": ("train", "hard", "refusal"),
    "dataset": ("picked", "train", "validation"),
    "tokens": ("tokenised",),
    "students": ("trained", "validation"),
    "reports": ("stop",),
}
ASIDE = ("holdout", "review", "contrast")
KINDS = ("on", "aside", "out")


class Node(NamedTuple):
    """A box of the diagram."""

    key: str
    column: int
    label: str
    rows: int
    size: float  # height, in answers
    tone: str  # name of its colour
    note: str


class Link(NamedTuple):
    """A band between two boxes."""

    start: str
    end: str
    size: float
    tone: str


def stage_of(job: ArtifactRecord) -> Stage:
    """Return the stage of a job: the rows that go on to the next job first, then those set aside, then those that leave."""
    counts, unit = job.row_counts, UNITS.get(job.job.partition("/")[0], "rows")
    goes_on = ON.get(job.job.partition("/")[0], ())
    kinds = {label: "on" if label in goes_on else "aside" if label in ASIDE else "out" for label in counts.rows_out}
    outcomes = [Outcome(label, rows, meaning(label), kinds[label]) for label, rows in counts.rows_out.items()]
    return Stage(job.job, counts.rows_in, unit, sorted(outcomes, key=lambda outcome: KINDS.index(outcome.kind)))


def flow(data: PageData) -> tuple[list[Node], list[Link]]:
    """Return boxes and bands: source rows -> prompts -> pools -> examples or drop reason.

    A prompt is as tall as all of its answers together, so that bands keep their height where prompts become answers.
    """
    counts = data.counts
    if not counts.answers:
        return [], []
    prompts = next((job for job in data.jobs if job.job == "prompts"), None)
    nodes, links = _prompt_flow(prompts, counts) if prompts else ([], [])
    for pool in [pool for pool in POOLS if any(key[0] == pool for key in counts.dispositions)]:
        rows = sum(rows for (name, _), rows in counts.dispositions.items() if name == pool)
        nodes.append(Node(f"pool:{pool}", 2, pool, rows, rows, pool, meaning(pool)))
        if prompts:
            links.append(Link("prompts", f"pool:{pool}", rows, pool))
    return _add_dispositions(nodes, links, data)


def _prompt_flow(job: ArtifactRecord, counts: Counts) -> tuple[list[Node], list[Link]]:
    stage = stage_of(job)
    prompts = next((outcome.rows for outcome in stage.outcomes if outcome.label == "prompts"), 0)
    per = counts.answers / prompts if prompts else 1.0
    note = "read from the contract's sources and holdout"
    nodes, links = [Node("source", 0, "source rows", stage.rows_in, stage.rows_in * per, "ink", note)], []
    for outcome in stage.outcomes:
        goes_on = outcome.label == "prompts"
        key = "prompts" if goes_on else f"out:{outcome.label}"
        tone = "ink" if goes_on else "aside" if outcome.kind == "aside" else "out"
        note = f"{outcome.meaning}; {TIMES}{per:.3g} answers each" if goes_on and per > 1.001 else outcome.meaning
        if outcome.rows:
            nodes.append(Node(key, 1, outcome.label, outcome.rows, outcome.rows * per, tone, note))
            links.append(Link("source", key, outcome.rows * per, tone))
    return nodes, links


def _add_dispositions(nodes: list[Node], links: list[Link], data: PageData) -> tuple[list[Node], list[Link]]:
    dispositions = data.counts.dispositions
    for why in DROPPED_BY:
        by_pool = {pool: dispositions[pool, why] for pool in POOLS if dispositions.get((pool, why))}
        if not by_pool:
            continue
        rows = sum(by_pool.values())
        key, tone = ("kept", "kept") if why == "" else (f"drop:{why}", "out")
        split = ", ".join(f"{count(n)} {name}" for name, n in sorted(data.splits.items()))
        nodes.append(Node(key, 3, SHORT.get(why, why), rows, rows, tone, split if why == "" else meaning(why)))
        links += [Link(f"pool:{pool}", key, size, pool) for pool, size in by_pool.items()]
    return nodes, links
