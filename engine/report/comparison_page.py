"""The page of `rayleigh compare`: one self-contained HTML file without scripts, in the look of the report."""

import json

from pydantic import JsonValue

from engine.records.comparison import Comparison
from engine.records.estimate import Estimate
from engine.report import labels
from engine.report.environment import environment
from engine.report.page import changed_words

TITLES = {
    "contract": "Contract", "jobs": "Jobs", "prompts": "Prompts", "answers": "Answers", "pools": "Pools", "dataset": "Dataset",
    "models": "Students and gate", "costs": "Costs",
}  # fmt: skip
"""Part of a pair -> its title."""


def comparison_page(comparison: Comparison) -> str:
    """Return the comparison as HTML; text of models and of contracts is escaped everywhere."""
    made = environment()
    made.filters.update(value=_value, marked=changed_words, number=_number, estimate=_estimate, signed=_signed)
    return made.get_template("comparison.html").render(comparison=comparison, titles=TITLES)


def _value(value: JsonValue) -> str:
    return labels.clip(json.dumps(value, ensure_ascii=False), 400)


def _number(value: float | None) -> str:
    """Return a count with its thousands marked, or a measured number with four digits."""
    if value is None:
        return labels.MISSING
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _estimate(estimate: Estimate | None) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})" if estimate else labels.MISSING


def _signed(estimate: Estimate | None) -> str:
    return f"{estimate.value:+.3f} ({estimate.low:+.3f} to {estimate.high:+.3f})" if estimate else labels.MISSING
