"""Renders the page: one self-contained HTML file without network access; model text is escaped everywhere."""

import base64
import difflib
import hashlib
import math
import re
from functools import cache

import yaml
from jinja2 import Environment
from markupsafe import Markup

from engine.contract.budget import Price
from engine.inference.spending import costs
from engine.records.gate import POINT
from engine.records.report import ModelEntry
from engine.report import cascade_plot, curve_plot, effects_plot, funnel, headline, labels, plots, row_counts
from engine.report.embed import as_data
from engine.report.environment import TEMPLATES, environment
from engine.report.page_data import PageData
from engine.report.queries import QUERIES
from engine.report.sankey import sankey
from engine.rows import DIFFICULTIES, DROPPED_BY, LAYERS, POOLS, PROMPT_DROPS, Row

SECTION_IDS = (
    "summary funnel duplicates judge pools training quality calibration pareto cascade gate return attribution "
    "lineage predictions run"
).split()
"""Ids of the sections, in order, and their file names below templates/sections."""
SECTIONS = [(name, "Deduplication" if name == "duplicates" else name.capitalize()) for name in SECTION_IDS]
"""Id and title in the navigation."""
FORMATS = ("count", "number", "brief", "whole", "money", "clock", "meaning")  # filters of the templates: functions of `labels`

DROP_ORDER = ("minhash", "semantic", "exact", "contaminated", "quota", *PROMPT_DROPS, "sample", "pool")  # most informative first
assert {"", *DROP_ORDER} == {*DROPPED_BY, *PROMPT_DROPS}


def page(data: PageData) -> str:
    """Return the report as HTML. A section without data says so."""
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    models = data.models
    tone = plots.tones(models)
    title, lede = headline.headline(data.report)
    text = yaml.safe_dump(data.contract, sort_keys=False, allow_unicode=True, width=100) if data.contract else ""
    values = {
        "data": data,
        "report": data.report,
        "models": models,
        "tone": tone,
        "sections": SECTIONS,
        "headline": title,
        "lede": lede,
        "tiles": headline.tiles(data.report, tone),
        "spending": _spending(data),
        "stages": [funnel.stage_of(job) for job in data.jobs],
        "flow": sankey(*funnel.flow(data)),
        "gates": headline.gate_rows(data.report),
        "point": POINT,
        "learning_curve": curve_plot.learning_curve(data.report.worth.curve if data.report.worth else None),
        "effects": effects_plot.effects(data.report.worth.attribution if data.report.worth else None),
        "cascade_chart": cascade_plot.cascade,
        "cascade_rows": cascade_plot.rows,
        "metrics": _metrics(models),
        "slices": _slices(models),
        "fields": list(dict.fromkeys(field for model in models for field in model.fields)),
        "size_chart": plots.scatter(models, lambda model: model.parameters, title="parameters", write=labels.brief),
        "latency_chart": _latency_chart(data),
        "losses": _losses(data),
        "most_tokens": max((step.tokens or 0 for steps in data.steps.values() for step in steps), default=1),
        "drop_rows": _drop_rows(data),
        "selection": data.metrics("dataset").get("selection"),
        "decontamination": data.metrics("dataset").get("decontamination"),
        "pool_rows": row_counts.pool_rows(data.counts),
        "yaml": labels.clip(text, 100_000),
        "pools": POOLS,
        "drops": DROP_ORDER,
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return _environment().get_template("page.html").render(values)


@cache
def _environment() -> Environment:
    made = environment()
    made.filters.update({name: getattr(labels, name) for name in FORMATS}, data=as_data, interval=labels.with_interval)
    made.globals.update(at=labels.at, sql=_sql, labels=labels, plots=plots, changed=changed_words, flat=_flat, bytes=_bytes)
    return made


def changed_words(text: str, other: str) -> Markup:
    """Return `text`, escaped, with the words marked that differ from `other`."""
    words, others = (re.findall(r"\s+|[^\s]+", each) for each in (text, other))
    pieces = []
    for kind, start, end, _, _ in difflib.SequenceMatcher(None, words, others, autojunk=False).get_opcodes():
        piece = "".join(words[start:end])
        pieces.append(Markup("<mark>{}</mark>").format(piece) if kind != "equal" and piece.strip() else Markup.escape(piece))
    return Markup("").join(pieces)


def _sql(run: str, name: str) -> str:
    return f'rayleigh sql {run or "RUN"} "{QUERIES[name]}"'


def _metrics(models: list[ModelEntry]) -> list[labels.Metric]:
    """Return the metrics that at least one model has."""
    return [metric for metric in labels.METRICS if any(plots.metric_of(model, metric.key) for model in models)]


def _slices(models: list[ModelEntry]) -> dict[str, list[str]]:
    """Return dimension -> its values; layers and difficulties in their own order."""
    values: dict[str, dict[str, None]] = {}
    for model in models:
        for dimension, slices in model.slices.items():
            values.setdefault(dimension, {}).update(dict.fromkeys(slices))
    order = {name: index for index, name in enumerate([*LAYERS, *DIFFICULTIES])}
    return {dimension: sorted(names, key=lambda name: order.get(name, -1)) for dimension, names in values.items()}


def _latency_chart(data: PageData) -> Markup:
    limit = labels.at(data.contract, "gate", "p95_ms")
    return plots.scatter(
        data.models,
        lambda model: model.latency and model.latency.p95_ms,
        title="latency p95, ms",
        write=labels.whole,
        limit=limit if isinstance(limit, int | float) else None,
    )


def _losses(data: PageData) -> tuple[float, float]:
    """Return the ends of the loss axis that all students share."""
    losses = [loss for steps in data.steps.values() for step in steps if (loss := step.loss) is not None and 0 < loss < math.inf]
    return (min(losses), max(losses)) if losses else (0.1, 1.0)


def _drop_rows(data: PageData) -> dict[str, int]:
    """Return drop reason -> rows: prompts by their job's row counts, answers by the tables."""
    rows = {label: count for job in data.jobs if job.job == "prompts" for label, count in job.row_counts.rows_out.items()}
    for (_, why), answers in data.counts.dispositions.items():
        rows[why] = rows.get(why, 0) + answers if why in DROPPED_BY else answers
    return rows


def _spending(data: PageData) -> list[Row]:
    price = Price.model_validate(labels.at(data.contract, "budget", "price") or {})
    return [cost.model_dump() for cost in costs(data.metrics("candidates"), data.metrics("dataset"), price)]


def _flat(tree: object, path: str = "") -> list[tuple[str, str]]:
    """Return path and value of every leaf, for a two-column table."""
    if isinstance(tree, dict):
        return [leaf for key, value in tree.items() for leaf in _flat(value, f"{path}.{key}".lstrip("."))]
    if isinstance(tree, list) and any(isinstance(item, dict | list) for item in tree):
        return [leaf for index, value in enumerate(tree[:20]) for leaf in _flat(value, f"{path}.{index}")]
    text = f"{tree:.5g}" if isinstance(tree, float) else ", ".join(map(str, tree)) if isinstance(tree, list) else str(tree)
    return [(path, labels.clip(text, 200))]


def _bytes(size: float) -> str:
    return labels.brief(size, "B") if size >= 1000 else f"{size:.0f} B"
