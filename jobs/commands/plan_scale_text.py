"""The text of `rayleigh plan --rows`."""

from collections.abc import Sequence

from engine.records.scale import Misfit, ScalePlan, StageCost
from engine.report.labels import MISSING, brief, money
from jobs.commands.scale_nodes import size
from jobs.terminal.console import columns

HEADS = {
    "tokens": "tokens", "gpu_hours": "GPU h", "cpu_hours": "CPU h", "shuffled_bytes": "shuffled", "spilled_bytes": "spilled",
    "storage_bytes": "stored", "files": "files", "list_calls": "listings", "objects": "objects", "driver_bytes": "driver",
    "head_bytes": "head", "task_bytes": "one task", "money": "money",
}  # fmt: skip
TRILLION = 1e12


def as_text(plan: ScalePlan) -> str:
    """Return a line for each stage, what does not fit into the nodes, and what each number rests on."""
    head = (
        f"{plan.contract}: {brief(plan.rows)} prompts on the profile {plan.profile}. Pilot: {plan.pilot_prompts} prompts, in "
        f"{plan.run}. Coefficients: {plan.coefficients}."
    )
    names = [*HEADS]
    rows = [[stage.name, brief(stage.rows), *(cell(name, stage.figures[name].value) for name in names)] for stage in plan.stages]
    rows.append(["all", "", *(_total(plan, name) for name in names)])
    heads = ["stage", "rows", *(f"{head} {plan.currency}".strip() if name == "money" else head for name, head in HEADS.items())]
    parts = [
        head,
        columns(rows, head=heads),
        "\n".join(misfit_text(misfit, plan) for misfit in plan.misfits),
        "\n".join([*plan.notes, *_unknown(plan.unknown)]),
        "What the numbers rest on:\n" + "\n".join(line for stage in plan.stages for line in _bases(stage)),
    ]
    return "\n\n".join(part for part in parts if part)


def misfit_text(misfit: Misfit, plan: ScalePlan) -> str:
    """Return the sentence about memory that no node has."""
    fits = f"It fits up to {brief(misfit.rows)} prompts." if misfit.rows >= 1 else "It fits at no size."
    return (
        f"DOES NOT FIT: {misfit.stage}: {misfit.who} holds {size(misfit.needs)} at {brief(plan.rows)} prompts, {misfit.node} of "
        f"the profile {plan.profile} has {size(misfit.has)}. {fits}"
    )


def cell(name: str, value: float | None) -> str:
    """Return a figure as text: bytes with their unit, hours and counts in three digits."""
    if value is None:
        return MISSING
    if name.endswith("_bytes"):
        return size(value)
    return money(value) if name == "money" else number(value)


def number(value: float) -> str:
    """Return three significant digits: 5600000000000 -> 5.6T."""
    return f"{value / TRILLION:.3g}T" if value >= TRILLION else brief(value)


def _total(plan: ScalePlan, name: str) -> str:
    """Return the sum, or the largest memory, which is a lower bound if a figure is unknown."""
    text = cell(name, plan.total[name])
    is_part = any(stage.figures[name].value is None for stage in plan.stages)
    return f">= {text}" if is_part and text != MISSING else text


def _unknown(lines: Sequence[str]) -> Sequence[str]:
    """Return a sentence for each list of unknown figures, with all stages that have it."""
    stages: dict[str, list[str]] = {}
    for stage, _, names in (line.partition(": ") for line in lines):
        stages.setdefault(", ".join(HEADS[name] for name in names.split(", ")), []).append(stage)
    return [f"In no sum ({MISSING}): {', '.join(of)}: {names}." for names, of in stages.items()]


def _bases(stage: StageCost) -> Sequence[str]:
    by_basis: dict[str, list[str]] = {}
    for name, head in HEADS.items():
        by_basis.setdefault(stage.figures[name].basis, []).append(head)
    return [f"  {stage.name}: {', '.join(heads)}: {basis}." for basis, heads in by_basis.items()]
