"""Text of `rayleigh compare`: the summary first, then a table of each part that differs."""

from collections.abc import Iterator, Sequence

from engine.comparison.summary import value_text
from engine.records.comparison import Comparison, CostsCompared, ModelsCompared, Pair, RunPair, Shift
from engine.records.estimate import Estimate
from jobs.terminal.console import columns, interval

SHIFTS, CHARS = 12, 60
"""Shifts of a part, and characters of a text, that are shown; --json prints all."""


def as_text(comparison: Comparison) -> str:
    """Return every pair as text."""
    runs = columns([[run.name, run.contract, run.created, run.folder] for run in comparison.runs], head=RUNS)
    return "\n\n".join([runs, *(part for pair in comparison.pairs for part in _pair(pair))])


RUNS = ("run", "contract", "created", "folder")
SHIFT = ("from", "to", "rows", "because of", "now", "confidence", "rayleigh trace")


def _pair(pair: RunPair) -> Iterator[str]:
    yield "\n".join([f"{pair.before} -> {pair.after}", *(f"  {sentence}" for sentence in pair.summary)])
    if pair.contract:
        rows = [[change.key, value_text(change.before), value_text(change.after)] for change in pair.contract]
        yield "contract\n" + columns(rows, head=["key", pair.before, pair.after])
    rows = [[job.job, job.state, ", ".join(job.because) or "-", "; ".join(job.environment)] for job in pair.jobs]
    yield "jobs\n" + columns(rows, head=["job", "", "because of", "packages and code"])
    if pair.prompts and pair.prompts.shifts:
        yield _shifts("prompts", pair.prompts.shifts)
    if pair.answers and pair.answers.other:
        yield _answers(pair)
    if pair.pools and pair.pools.shifts:
        yield _shifts("pools of the answers", pair.pools.shifts)
    if pair.dataset and pair.dataset.shifts:
        yield _shifts("what became of the answers", pair.dataset.shifts)
    if pair.dataset and pair.dataset.examples:
        yield "examples\n" + _texts(pair.dataset.examples, pair)
    if pair.models:
        yield from _models(pair.models, pair)
    if pair.costs:
        yield from _costs(pair.costs, pair)


def _answers(pair: RunPair) -> str:
    assert pair.answers
    rows = [[teacher or "-", *counts] for teacher, counts in pair.answers.teachers.items()]
    return "answers\n" + columns(rows, head=["teacher", "same", "other"]) + "\n\n" + _texts(pair.answers.examples, pair)


def _texts(pairs: Sequence[Pair], pair: RunPair) -> str:
    rows = [[each.id[:12], *map(_short, (each.text, each.before, each.after))] for each in pairs]
    return columns(rows, head=["prompt", "text", pair.before, pair.after])


def _shifts(title: str, shifts: Sequence[Shift]) -> str:
    rows = [
        [
            shift.before or "(not there)",
            shift.after or "(not there)",
            shift.rows,
            ", ".join(shift.reasons_before) or "-",
            ", ".join(shift.reasons_after) or "-",
            "{:.2f} to {:.2f}".format(*shift.confidence) if shift.confidence else "-",
            " ".join(name[:12] for name in shift.examples),
        ]
        for shift in shifts[:SHIFTS]
    ]
    shown = [index for index in range(len(SHIFT)) if index not in (3, 4, 5) or any(row[index] != "-" for row in rows)]
    table = columns([[row[index] for index in shown] for row in rows], head=[SHIFT[index] for index in shown])
    rest = len(shifts) - SHIFTS
    return f"{title}\n{table}" + (f"\n(the {SHIFTS} largest; {rest} more with --json)" if rest > 0 else "")


def _models(models: ModelsCompared, pair: RunPair) -> Iterator[str]:
    rows = []
    for model in models.models:
        exact = [interval(each) for each in model.exact_match]
        word = "" if model.words == (None, None) else f"{model.words[0] or '-'} -> {model.words[1] or '-'}"
        p_value = None if model.p_value is None else f"{model.p_value:.2g}"
        rows.append([model.name, model.role, *exact, signed(model.difference), p_value, f"{model.gained}, {model.lost}", word])
    head = ["model", "role", f"exact match, {pair.before}", pair.after, "paired difference", "p", "gained, lost", "gate"]
    yield f"models, on {models.prompts[2]} prompts of both holdouts\n" + columns(rows, head=head)
    for name in ("only_before", "only_after"):
        if missing := getattr(models, name):
            yield f"evaluated in {pair.before if name == 'only_before' else pair.after} alone: {', '.join(missing)}"
    sizes = [
        [model.name, *_both(model.parameters), *_both(model.weight_bytes), *_both(model.p95_ms), *_both(model.per_1000_accepted)]
        for model in models.models
        if model.role == "student"
    ]
    if sizes:
        names = ("parameters", "bytes", "p95 ms", "cost of 1000")
        yield columns(sizes, head=["student", *(part for name in names for part in (name, "now"))])
    requirements = [
        [model.name, shift.number, *_both(shift.wanted), *_both(shift.found), " -> ".join(word or "-" for word in shift.words)]
        for model in models.models
        for shift in model.requirements
    ]
    if requirements:
        yield "gate\n" + columns(requirements, head=["student", "requirement", "wanted", "now", "found", "now", "word"])


def _costs(costs: CostsCompared, pair: RunPair) -> Iterator[str]:
    rows = []
    for teacher, both in costs.teachers.items():
        values = [
            [each and getattr(each, name) for each in both] for name in ("answers", "accepted", "money", "money_per_accepted")
        ]
        rows.append([teacher, *(value for two in values for value in two)])
    rows = [[name, *(_money(value) if index >= 4 else value for index, value in enumerate(of))] for name, *of in rows]
    unit = " ".join(dict.fromkeys(filter(None, costs.currency)))
    names = ("answers", "accepted", f"money {unit}".strip(), "each")
    yield "costs\n" + columns(rows, head=["teacher", *(part for name in names for part in (name, "now"))])
    seconds = [[job, *both] for job, both in costs.seconds.items()]
    seconds += [["tokens paid to teachers", *costs.paid], ["tokens paid to judges", *costs.judge_paid]]
    yield "seconds of the jobs\n" + columns(seconds, head=["job", pair.before, pair.after])


def signed(estimate: Estimate | None) -> str:
    """Return a difference with its interval, each with its sign."""
    return f"{estimate.value:+.3f} ({estimate.low:+.3f} to {estimate.high:+.3f})" if estimate else "-"


def _money(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value


def _both(values: Sequence[object]) -> list[object]:
    return [f"{value:,}" if isinstance(value, int) else value for value in values]


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= CHARS else plain[: CHARS - 3] + "..."
