"""Labels and meanings of metrics, pools and drop reasons, and how the page and the console write numbers."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from markupsafe import Markup

from engine.records.estimate import Estimate
from engine.records.judge import AuditProbe

EN_DASH, TIMES, NBSP, MISSING = "\u2013", "\u00d7", "\u00a0", "n/a"


class Metric(NamedTuple):
    """One metric of a model."""

    key: str  # in Metrics
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
    "champion": "Difference to the champion",
    "slices": "Slices",
    "cost_per_1000_accepted": "Cost per 1,000 accepted",
    "weight_bytes": "Bytes of weights",
    **{metric.key: metric.label for metric in METRICS},
}

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
    "unknown_role": "a conversation with a role that is not known",
    "tool_calls": "a conversation with calls of tools before its last question",
    "media": "a conversation with images, audio or files",
    "ends_with_assistant": "a conversation that ends with an answer",
    "synthesis_failed": "the model that writes prompts gave no complete reply",
    "synthesis_budget_exhausted": "not requested: the token budget was used up",
    "synthesis_refused": "the model would not write one",
    "synthesis_empty": "the model wrote nothing usable",
    "synthesis_echo": "the text repeats its instruction",
    "synthesis_unchanged": "the text is that of its seed",
    "synthesis_unfaithful": "a paraphrase with other numbers than its seed",
    "synthesis_unproven": "the fact that was to be removed may still be stated",
    "exact_copy": "the same text as an earlier prompt",
    "near_copy": "nearly the text of an earlier prompt",
    "holdout_copy": "the same text as a holdout prompt",
    "holdout_near": "nearly the text of a holdout prompt",
    "train": "accepted",
    "tokenised": "as token ids",
    "hard": "the teacher's own samples disagree",
    "contrast": "a wrong answer used as a contrastive example",
    "refusal": "declines correctly",
    "review": "for a person to review",
    "failure": "cut off, unreadable or wrong",
    "not_routed": "not requested: routed to other teachers",
    "finish_reason_budget_exhausted": "not requested: the token budget was used up",
    "early_stopped": "not requested: enough answers were verified, or agreed",
    "pool": "its pool is not used for training",
    "sample": "another answer to the same prompt was taken",
    "exact": "the same prompt and answer as another",
    "minhash": "shares most of its word n-grams with another",
    "semantic": "means nearly the same as another",
    "contaminated": "resembles the holdout or an evaluation list",
    "quota": "the quota of its kind was full",
    "swap": "an example with other quoted values",
    "correction": "a failed answer with its correction",
    "ask": "a question for the missing information",
    "trained": "used for training",
    "validation": "held out to measure the loss",
    "picked": "becomes an example",
}


JUDGE_METRICS = {
    "kappa": "agreement with the labels beyond chance: 0 none, 1 all",
    "sensitivity": "share of the right answers that the judge accepts",
    "specificity": "share of the wrong answers that the judge rejects",
    "auc": "probability that a right answer has a higher score than a wrong one; 0.5 is chance",
    "ece": "expected calibration error: mean gap between confidence and accuracy",
    "pairs": "share of the pairs in which the right answer beats the wrong one",
}
EVIDENCE = {
    "logprob": "log-probability of the answer under its teacher",
    "mean_logprob": "the same for each token",
    "least_logprob": "log-probability of its least likely token",
    "field_logprobs": "log-probability of the value of each field",
    "least_field": "that of the least likely of these values",
    "agreement": "share of the teacher's samples with the same answer",
    "teachers": "share of the other teachers with the same answer",
    "checks": "share of the checks that passed",
    "distance": "distance of the prompt to the nearest labelled one",
    "length": "length of the answer",
    "rubric": "scores of a rubric",
    "reader": "log-probability of the answer under another model",
}
PROBES = {
    "position": "preference for the first (above 0) or second (below 0) of two answers",
    "padded": "score that a wrong answer gains when it is repeated",
    "shortened": "score that a wrong answer gains when it is cut in half",
    "self_preference": "score that answers of the judge's model family gain over others with the same label",
    "paraphrase": "how much a score moves when the question is paraphrased",
    "rules": "probability that an answer that passed the checks has a higher score than one that failed; 0.5 is chance",
    "batches": "largest difference of one batch's mean score to that of all others",
    "runs": "mean score of this run less that of the previous run with this judge",
}
PROBE_RESULTS = {
    "within": "within the limit",
    "unclear": "too few items to tell",
    "beyond": "beyond the limit",
    "measured": "the contract sets no limit",
    "unmeasured": "not measured",
}


def meaning(label: str) -> str:
    """Return the meaning of a label of row counts, "" if the label is not in a closed set."""
    for cut in (label, label.rpartition(".")[2], label.rpartition(":")[2], label.rpartition("/")[2]):
        if cut.strip() in MEANINGS:
            return MEANINGS[cut.strip()]
    return ""


def at(tree: object, *path: str) -> object:
    """Return the value at `path` in nested mappings or records, None where a key does not exist."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else getattr(tree, key, None)
    return tree


def count(value: float | None) -> str:
    """1234 -> 1,234."""
    return MISSING if value is None else f"{value:,.0f}"


def number(value: float | None, digits: int = 2) -> str:
    """Return a share, score or loss with a fixed number of decimals."""
    return MISSING if value is None else f"{value:.{digits}f}"


def brief(value: float | None, unit: str = "") -> str:
    """Return three significant digits, thousands as k, M, G: 49600000 -> 49.6M."""
    if value is None:
        return MISSING
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}{letter}{unit}"
    return f"{value:.3g}{unit}"


def whole(value: float | None, unit: str = "") -> str:
    """Return milliseconds, MiB and the like: no decimals from ten on."""
    if value is None:
        return MISSING
    return (f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2g}") + unit


def money(value: float | None) -> str:
    """Return an amount in the contract's currency with at least two significant digits."""
    if value is None:
        return MISSING
    if value >= 0.995 or value <= 0:
        return f"{value:,.2f}"
    return f"{value:.{1 - math.floor(math.log10(value))}f}"


def span(low: float | None, high: float | None, digits: int = 2) -> str:
    """Return the ends of an interval, "" if either is missing."""
    if low is None or high is None:
        return ""
    return f"{low:+.{digits}f} to {high:+.{digits}f}" if low < 0 else f"{low:.{digits}f}{EN_DASH}{high:.{digits}f}"


def with_interval(estimate: Estimate | AuditProbe | None, digits: int = 2) -> Markup:
    """Return value and interval as HTML, such as `0.84 0.77-0.90`, or n/a without a value."""
    if estimate is None or estimate.value is None:
        return Markup('<span class="na">n/a</span>')
    ends = span(estimate.low, estimate.high, digits)
    return Markup('{} <span class="ci">{}</span>').format(number(estimate.value, digits), ends)


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
    """Return at most `limit` characters of `text`, with the number of omitted ones."""
    text = text or ""
    return text if len(text) <= limit else f"{text[:limit]} \u2026 [{len(text) - limit:,} more characters]"
