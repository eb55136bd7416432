"""Facts in, one HTML page out: self-contained, no network, model text escaped everywhere."""

import base64
import difflib
import hashlib
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from engine.contract.budget import Price
from engine.inference.spending import costs
from engine.report import funnel, labels, plots, pooled, verdict
from engine.report.embed import as_data
from engine.report.facts import Facts
from engine.report.queries import QUERIES
from engine.report.sankey import sankey
from engine.rows import DIFFICULTIES, DROPPED_BY, LAYERS, POOLS, PROMPT_DROPS

TEMPLATES = Path(__file__).parent / "templates"

SECTIONS = (
    ("verdict", "Verdict"),
    ("line", "Line"),
    ("duplicates", "Duplicates and clusters"),
    ("judge", "Judge"),
    ("pools", "Pools and pairs"),
    ("training", "Training"),
    ("quality", "Quality"),
    ("calibration", "Calibration"),
    ("tradeoffs", "Size, latency, cost"),
    ("gate", "Gate"),
    ("samples", "Samples"),
    ("predictions", "Predictions"),
    ("run", "Run"),
)

ORDER = ("minhash", "semantic", "exact", "contaminated", "quota", *PROMPT_DROPS, "sample", "pool")  # most telling pairs first
assert {"", *ORDER} == {*DROPPED_BY, *PROMPT_DROPS}


def page(facts: Facts) -> str:
    """Return the report as HTML. A section without data says so."""
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    models = facts.models
    tone = plots.tones(models)
    head, lede = verdict.headline(facts.report, models)
    nodes, links = funnel.flow(facts)
    shown = {
        "facts": facts,
        "models": models,
        "tone": tone,
        "sections": SECTIONS,
        "headline": head,
        "lede": lede,
        "tiles": verdict.tiles(facts.report, models, tone),
        "spending": _spending(facts),
        "stages": funnel.stages(facts.jobs),
        "flow": sankey(nodes, links),
        "gates": _gates(facts),
        "metrics": _measured(models),
        "slices": _slices(models),
        "fields": _fields(models),
        "losses": _losses(facts),
        "most_tokens": _most_tokens(facts),
        "drop_rows": _drop_rows(facts),
        "selection": _made(facts).get("selection"),
        "decontamination": _made(facts).get("decontamination"),
        "pooled": pooled.table(facts.counts),
        "lessons": pooled.lessons(facts.jobs),
        "yaml": _yaml(facts.contract),
        "pools": POOLS,
        "drops": ORDER,
        "meanings": labels.MEANINGS,
        "judged": labels.JUDGED,
        "probed": labels.PROBED,
        "found": labels.FOUND,
        "script": Markup(script),
        "script_hash": digest,
        "style": Markup((TEMPLATES / "page.css").read_text()),
    }
    return _environment().get_template("page.html").render(shown)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters.update(
        data=as_data,
        count=labels.count,
        number=labels.number,
        brief=labels.brief,
        whole=labels.whole,
        money=labels.money,
        clock=labels.clock,
        interval=labels.with_interval,
        meaning=labels.meaning,
    )
    made.globals.update(
        at=labels.at, sql=_sql, plots=plots, told=plots.told, changed=changed_words, query=QUERIES, flat=_flat, bytes=_bytes
    )
    return made


def changed_words(text: str, other: str) -> Markup:
    """Return `text`, escaped, with the words that `other` does not have in that place marked."""
    mine, theirs = re.findall(r"\s+|[^\s]+", text), re.findall(r"\s+|[^\s]+", other)
    pieces = []
    for kind, a, b, _, _ in difflib.SequenceMatcher(None, mine, theirs, autojunk=False).get_opcodes():
        piece = "".join(mine[a:b])
        pieces.append(Markup("<mark>{}</mark>").format(piece) if kind != "equal" and piece.strip() else Markup.escape(piece))
    return Markup("").join(pieces)


def _sql(run: str, name: str) -> str:
    return f'rayleigh sql {run or "RUN"} "{QUERIES[name]}"'


def _gates(facts: Facts) -> dict[str, list[verdict.GateLine]]:
    students = [model for model in facts.models if model.get("role") == "student"]
    return {student["name"]: verdict.gate_lines(student, facts.report, facts.contract) for student in students}


def _measured(models: list[dict[str, Any]]) -> list[labels.Metric]:
    """The metrics that at least one model has."""
    return [metric for metric in labels.METRICS if any(labels.at(m, "metrics", metric.key, "value") is not None for m in models)]


def _slices(models: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Dimension -> its values, closed sets in their own order."""
    found: dict[str, dict[str, None]] = {}
    for model in models:
        for dimension, values in (model.get("slices") or {}).items():
            found.setdefault(dimension, {}).update(dict.fromkeys(values))
    order = {name: place for place, name in enumerate([*LAYERS, *DIFFICULTIES])}
    return {dimension: sorted(values, key=lambda value: order.get(value, -1)) for dimension, values in found.items()}


def _fields(models: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(field for model in models for field in model.get("fields") or {}))


def _losses(facts: Facts) -> tuple[float, float]:
    """The ends of the loss axis that all students share."""
    losses = [s["loss"] for steps in facts.steps.values() for s in steps if s["loss"] is not None and 0 < s["loss"] < math.inf]
    return (min(losses), max(losses)) if losses else (0.1, 1.0)


def _made(facts: Facts) -> dict[str, Any]:
    """What the job says that made the training set."""
    return next((job.get("metrics") or {} for job in facts.jobs if job["job"] == "dataset"), {})


def _drop_rows(facts: Facts) -> dict[str, int]:
    """Drop reason -> rows: of the answers as counted, of the prompts as their job tallied them."""
    found = {label: rows for stage in funnel.stages(facts.jobs) if stage.job == "prompts" for label, rows, _, _ in stage.outcomes}
    for (_, why), rows in facts.counts.fates.items():
        found[why] = found.get(why, 0) + rows if why in DROPPED_BY else rows
    return found


def _spending(facts: Facts) -> list[dict[str, Any]]:
    said = {job["job"]: job.get("metrics") or {} for job in facts.jobs}
    price = Price.model_validate(labels.at(facts.contract, "budget", "price") or {})
    return costs(said.get("candidates", {}), said.get("dataset", {}), price)


def _most_tokens(facts: Facts) -> float:
    return max((step["tokens"] or 0 for steps in facts.steps.values() for step in steps), default=1)


def _yaml(contract: dict[str, Any]) -> str:
    text = yaml.safe_dump(contract, sort_keys=False, allow_unicode=True, width=100) if contract else ""
    return labels.clip(text, 100_000)


def _flat(tree: Any, path: str = "") -> list[tuple[str, str]]:
    """Return path and value of every leaf, for a two-column table."""
    if isinstance(tree, dict):
        return [leaf for key, value in tree.items() for leaf in _flat(value, f"{path}.{key}".lstrip("."))]
    if isinstance(tree, list) and any(isinstance(item, dict | list) for item in tree):
        return [leaf for index, value in enumerate(tree[:20]) for leaf in _flat(value, f"{path}.{index}")]
    text = f"{tree:.5g}" if isinstance(tree, float) else ", ".join(map(str, tree)) if isinstance(tree, list) else str(tree)
    return [(path, labels.clip(text, 200))]


def _bytes(size: float) -> str:
    return labels.brief(size, "B") if size >= 1000 else f"{size:.0f} B"
