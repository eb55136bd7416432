"""From source rows to examples: every job's rows in and out, and the flow between them with every pool and drop reason."""

from typing import Any, NamedTuple

from engine.report.facts import Counts, Facts, Outcome, Stage
from engine.report.labels import TIMES, count, meaning
from engine.rows import DROPPED_BY, POOLS

SHORT = {"": "examples", "pool": "pool not learnt", "sample": "other samples", "quota": "over quota"}
UNITS = {
    "prompts": "source rows",
    "candidates": "answers",
    "dataset": "judged answers",
    "students": "examples",
    "reports": "answers",
}
ON = {  # job -> labels of the rows that go on down the line
    "prompts": ("prompts",),
    "candidates": ("train", "hard", "refusal"),
    "dataset": ("picked", "train", "validation"),
    "students": ("trained", "validation"),
    "reports": ("stop",),
}
ASIDE = ("holdout", "review", "contrast")


class Node(NamedTuple):
    """A box of the flow picture."""

    key: str
    column: int
    label: str
    rows: int
    size: float  # in the unit of the picture
    tone: str  # name of its colour
    note: str


class Link(NamedTuple):
    """A band between two boxes."""

    start: str
    end: str
    size: float
    tone: str


def stages(jobs: list[dict[str, Any]]) -> list[Stage]:
    """Return one stage a job, in the order of the line."""
    return [_stage(record) for record in jobs if record.get("row_counts")]


def _stage(record: dict[str, Any]) -> Stage:
    row_counts, job = record["row_counts"], record["job"]
    outcomes = [Outcome(label, rows, meaning(label), _kind(label, job)) for label, rows in row_counts["rows_out"].items()]
    order = {"on": 0, "aside": 1, "out": 2}
    return Stage(
        job, row_counts["rows_in"], UNITS.get(job.partition("/")[0], "rows"), sorted(outcomes, key=lambda o: order[o.kind])
    )


def _kind(label: str, job: str) -> str:
    return "on" if label in ON.get(job.partition("/")[0], ()) else "aside" if label in ASIDE else "out"


def flow(facts: Facts) -> tuple[list[Node], list[Link]]:
    """Return boxes and bands: source rows -> prompts -> pools -> examples or drop reason.

    A prompt is drawn as tall as all of its answers, so that bands keep their height where prompts become answers.
    """
    counts = facts.counts
    if not counts.answers:
        return [], []
    record = next((job for job in facts.jobs if job["job"] == "prompts"), None)
    nodes, links = _prompt_flow(record, counts) if record else ([], [])
    pools = [pool for pool in POOLS if any(key[0] == pool for key in counts.fates)]
    for pool in pools:
        rows = sum(rows for (name, _), rows in counts.fates.items() if name == pool)
        nodes.append(Node(f"pool:{pool}", 2, pool, rows, rows, pool, meaning(pool)))
        if record:
            links.append(Link("prompts", f"pool:{pool}", rows, pool))
    return _fates(nodes, links, facts)


def _prompt_flow(record: dict[str, Any], counts: Counts) -> tuple[list[Node], list[Link]]:
    stage = _stage(record)
    sent = next((o.rows for o in stage.outcomes if o.label == "prompts"), 0)
    per = counts.answers / sent if sent else 1.0
    nodes = [
        Node("source", 0, "source rows", stage.rows_in, stage.rows_in * per, "ink", "read from the contract's sources and holdout")
    ]
    links = []
    for outcome in stage.outcomes:
        goes_on = outcome.label == "prompts"
        key = "prompts" if goes_on else f"out:{outcome.label}"
        tone = "ink" if goes_on else "aside" if outcome.kind == "aside" else "out"
        note = f"{outcome.meaning}; {TIMES}{per:.3g} answers each" if goes_on and per > 1.001 else outcome.meaning
        if outcome.rows:
            nodes.append(Node(key, 1, "prompts" if goes_on else outcome.label, outcome.rows, outcome.rows * per, tone, note))
            links.append(Link("source", key, outcome.rows * per, tone))
    return nodes, links


def _fates(nodes: list[Node], links: list[Link], facts: Facts) -> tuple[list[Node], list[Link]]:
    fates = facts.counts.fates
    for why in DROPPED_BY:
        into = {pool: fates[pool, why] for pool in POOLS if fates.get((pool, why))}
        if not into:
            continue
        rows = sum(into.values())
        key, tone = ("kept", "kept") if why == "" else (f"drop:{why}", "out")
        split = ", ".join(f"{count(n)} {name}" for name, n in sorted(facts.splits.items()))
        nodes.append(Node(key, 3, SHORT.get(why, why), rows, rows, tone, split if why == "" else meaning(why)))
        links += [Link(f"pool:{pool}", key, size, pool) for pool, size in into.items()]
    return nodes, links
