"""What the page calls things: metrics, pools, drop reasons and how a number is written."""

import math
from typing import Any, NamedTuple

from markupsafe import Markup

EN_DASH, TIMES, NBSP, MISSING = "\u2013", "\u00d7", "\u00a0", "n/a"


class Metric(NamedTuple):
    """One number of a model."""

    key: str
    label: str
    up: bool  # more is better
    meaning: str


METRICS = (
    Metric("exact_match", "Exact match", True, "share of holdout prompts answered exactly as the reference"),
    Metric("exact_match_seen", "Exact match, seen", True, "on scenarios that also occur in training"),
    Metric("exact_match_unseen", "Exact match, unseen", True, "on scenarios that never occur in training"),
    Metric("field_f1", "Field F1", True, "mean over fields of the harmonic mean of precision and recall"),
    Metric("schema_validity", "Schema validity", True, "share of answers that fit the JSON schema"),
    Metric("abstain_precision", "Abstain precision", True, "of the fields left null, how many the prompt indeed lacks"),
    Metric("abstain_recall", "Abstain recall", True, "of the fields that the prompt lacks, how many were left null"),
    Metric("ece", "ECE", False, "expected calibration error: mean gap between confidence and accuracy"),
    Metric("brier", "Brier", False, "mean squared gap between confidence and being right"),
)

GATE_LABELS = {
    "retention": "Retention",
    "retention_unseen": "Retention on unseen",
    "p95_ms": "Latency p95 (ms)",
    **{metric.key: metric.label for metric in METRICS},
}
AT_MOST = ("ece", "brier", "p95_ms")

MEANINGS = {
    "prompts": "sent to the teachers",
    "holdout": "set aside before any teacher saw a prompt",
    "unreadable": "not JSON, or broken in another way",
    "encoding": "not valid UTF-8",
    "missing_column": "the source lacks a column that the contract maps",
    "empty": "no text",
    "too_long": "longer than the limit",
    "duplicate_id": "an id that occurred before",
    "bad_value": "a value outside of its closed set",
    "synthesis_failed": "no whole reply of the model that should write a prompt",
    "synthesis_budget_exhausted": "not asked: the token budget was spent",
    "synthesis_refused": "the model would not write one",
    "synthesis_empty": "the model wrote nothing to speak of",
    "synthesis_echo": "it repeats what was asked for",
    "synthesis_unchanged": "the words of the seed that it was written from",
    "synthesis_unfaithful": "a paraphrase with other numbers than its seed",
    "synthesis_unproven": "the fact that it must lack may still be there",
    "exact_copy": "the same text as an earlier prompt",
    "near_copy": "nearly the text of an earlier prompt",
    "holdout_copy": "the same text as a holdout prompt",
    "holdout_near": "nearly the text of a holdout prompt",
    "train": "accepted",
    "hard": "the teacher's own samples disagree",
    "contrast": "wrong in a way worth showing",
    "refusal": "rightly declines",
    "review": "a person should look",
    "failure": "cut off, unreadable or wrong",
    "not_routed": "not asked: routed to other teachers",
    "finish_reason_budget_exhausted": "not asked for: the budget was spent",
    "early_stopped": "not asked: enough answers were verified",
    "pool": "its pool is not learnt from",
    "sample": "another answer to the same prompt was taken",
    "exact": "the same prompt and answer as another",
    "minhash": "shares most of its word n-grams with another",
    "semantic": "means nearly the same as another",
    "contaminated": "resembles the holdout or an evaluation list",
    "quota": "no place left for its kind",
    "correction": "a failed answer, and the right one",
    "ask": "what must be asked",
    "trained": "learnt from",
    "validation": "held back to watch the loss",
    "picked": "becomes an example",
}


JUDGED = {
    "kappa": "agreement with the labels beyond chance: 0 none, 1 all",
    "sensitivity": "share of the right answers that it lets pass",
    "specificity": "share of the wrong answers that it stops",
    "auc": "how often a right answer has a higher score than a wrong one; 0.5 is chance",
    "ece": "mean distance of its confidence from how often it is right",
    "pairs": "share of the pairs in which the right answer beats the wrong one",
}
PROBED = {
    "position": "likes the first place (above 0) or the second (below) of two answers",
    "padded": "score that a wrong answer gains by being said twice",
    "shortened": "score that a wrong answer gains by being cut in half",
    "self_preference": "score that answers of its own family gain over others with the same label",
    "paraphrase": "how far other words for the question move a score",
    "rules": "how often an answer that passed the checks has a higher score than one that failed; 0.5 is chance",
    "batches": "distance of the mean score of the batch that lies furthest from all others",
    "runs": "mean score of this run less that of the last one with this judge",
}
FOUND = {
    "within": "within the limit",
    "unclear": "too few items to tell",
    "beyond": "beyond the limit",
    "measured": "the contract sets no limit",
    "unmeasured": "not measured",
}


def meaning(label: str) -> str:
    """Return what a tally's label says, "" if it is not one of the closed sets."""
    for cut in (label, label.rpartition(".")[2], label.rpartition(":")[2], label.rpartition("/")[2]):
        if cut.strip() in MEANINGS:
            return MEANINGS[cut.strip()]
    return ""


def at(tree: Any, *path: str) -> Any:
    """Return the value below `path`, None where the way ends."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def count(value: float | None) -> str:
    """1234 -> 1,234."""
    return MISSING if value is None else f"{value:,.0f}"


def number(value: float | None, digits: int = 2) -> str:
    """A share, score or loss, with a fixed number of decimals."""
    return MISSING if value is None else f"{value:.{digits}f}"


def brief(value: float | None, unit: str = "") -> str:
    """Three significant digits, thousands as k, M, G: 49600000 -> 49.6M."""
    if value is None:
        return MISSING
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}{letter}{unit}"
    return f"{value:.3g}{unit}"


def whole(value: float | None, unit: str = "") -> str:
    """Milliseconds, MiB and the like: no decimals from ten on."""
    if value is None:
        return MISSING
    return (f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2g}") + unit


def money(value: float | None) -> str:
    """A price in the contract's currency."""
    if value is None:
        return MISSING
    if value >= 0.995 or value <= 0:
        return f"{value:,.2f}"
    return f"{value:.{1 - math.floor(math.log10(value))}f}"


def span(low: float | None, high: float | None, digits: int = 2) -> str:
    """The ends of an interval, "" if either is missing."""
    if low is None or high is None:
        return ""
    return f"{low:+.{digits}f} to {high:+.{digits}f}" if low < 0 else f"{low:.{digits}f}{EN_DASH}{high:.{digits}f}"


def with_interval(found: dict[str, Any] | None, digits: int = 2) -> Markup:
    """Value and interval, the interval quieter: `0.84 0.77-0.90`."""
    if not found or found.get("value") is None:
        return Markup('<span class="na">n/a</span>')
    ends = span(found.get("low"), found.get("high"), digits)
    quiet = Markup(' <span class="ci">{}</span>').format(ends) if ends else ""
    return Markup("{}{}").format(number(found["value"], digits), quiet)


def clock(seconds: float | None) -> str:
    """190 -> 3 min 10 s."""
    if seconds is None:
        return MISSING
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else (f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s")


def clip(text: str | None, limit: int) -> str:
    """At most `limit` characters, and how many more there were."""
    text = text or ""
    return text if len(text) <= limit else f"{text[:limit]} \u2026 [{len(text) - limit:,} more characters]"
