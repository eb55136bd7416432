"""Prompts written from seeds: asked for in rounds, and settled each time among all that was there before."""

from collections import Counter
from typing import Any, NamedTuple

from ray.data import Dataset

from engine.contract.synthesize import can_lack
from engine.inference.crash_isolation import MARKERS
from engine.prompts import flow, quota
from engine.prompts.flow import Verdicts
from engine.prompts.quota import Cell
from engine.prompts.synthesizer import PAYEE, SynthesizerSpec
from engine.rows import REJECTED
from engine.runs.job import JobContext


class Extended(NamedTuple):
    """The rows with those that were written."""

    rows: Dataset
    verdicts: Verdicts
    rows_in: int  # read, and asked for
    metrics: dict[str, Any]


def extend(context: JobContext, rows: Dataset, verdicts: Verdicts, *, files: int) -> Extended:
    """Ask until the quotas are full or the rounds are over. `files` were read; what is written counts as further ones."""
    section, cpu = context.contract.prompts, context.profile.cpu
    labelled = flow.label(rows, verdicts, cpu)
    found = flow.count(labelled, cpu)
    rows_in = found["fate"].total()
    wanted = quota.quotas(section.synthesize, section.layers, found["layer"])
    specs = _specs(context, files)
    able = [unit.name for unit in context.contract.specialist.task_units if can_lack(unit)]
    asked: Counter[Cell] = Counter()
    spent: Counter[str] = Counter()
    (context.ledger / MARKERS / "synthesis").remove()  # who died in an earlier run says nothing about this one
    for number in range(1, max(one.rounds for one in section.synthesize) + 1):
        orders = quota.orders(section.synthesize, wanted, _by(found, "prompts"), round=number, able=able)
        assigned = flow.assign(labelled, orders, _by_title(asked), cpu)
        if not assigned.counts:
            break
        asked.update(assigned.counts)
        written = flow.synthesize(labelled, assigned, specs, cpu)
        spent += flow.tokens(written, cpu)
        rows = flow.join(rows, written, section, cpu)
        verdicts = flow.settle(rows, section, cpu, rounds=number)
        labelled = flow.label(rows, verdicts, cpu)
        found = flow.count(labelled, cpu)
    cells = _cells(wanted, asked, found)
    for cell in cells:
        if cell["missing"]:
            context.log("prompts: {source}: {kept} of {wanted} {layer} were written, {asked} were asked for".format(**cell))
    return Extended(rows, verdicts, rows_in + asked.total(), {**spent, "quotas": cells})


def _specs(context: JobContext, files: int) -> list[SynthesizerSpec]:
    """Return one for each model: a process can hold one."""
    from jobs.steps.judging import teacher_client

    syntheses = context.contract.prompts.synthesize
    models = list(dict.fromkeys(one.model for one in syntheses))
    specs = []
    for model in models:
        mine = {files + number: one for number, one in enumerate(syntheses) if one.model == model}
        specs.append(
            SynthesizerSpec(
                syntheses=tuple(mine.values()),
                specialist=context.contract.specialist,
                pool=context.profile.teacher if model else context.profile.cpu,
                client=teacher_client(context, model, "synthesis", payee=PAYEE) if model else None,
                numbers={one.title: number for number, one in mine.items()},
                max_chars=context.contract.prompts.max_chars,
            )
        )
    return specs


def _by(found: dict[str, Counter[str]], *fates: str) -> Counter[Cell]:
    """Synthetic rows that have one of `fates`, by title and layer."""
    rows: Counter[Cell] = Counter()
    for value, count in found["synthetic"].items():
        source, layer, fate = value.split("|")
        if fate in fates:
            rows[source.removeprefix("synthesize/"), layer] += count
    return rows


def _by_title(asked: Counter[Cell]) -> Counter[str]:
    titles: Counter[str] = Counter()
    for (title, _), count in asked.items():
        titles[title] += count
    return titles


def _cells(wanted: dict[Cell, int], asked: Counter[Cell], found: dict[str, Counter[str]]) -> list[dict[str, Any]]:
    """What became of each quota; `made` are sound prompts, of which copies were dropped."""
    kept, rejected = _by(found, "prompts"), _by(found, *REJECTED)
    return [
        {
            "source": f"synthesize/{title}",
            "layer": layer,
            "wanted": count,
            "asked": asked[title, layer],
            "made": asked[title, layer] - rejected[title, layer],
            "kept": kept[title, layer],
            "missing": count - kept[title, layer],
        }
        for (title, layer), count in wanted.items()
    ]
