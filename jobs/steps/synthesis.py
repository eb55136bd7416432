"""Prompts written from seeds, in rounds: after each round copies are searched again among all rows so far."""

from collections import Counter
from typing import NamedTuple

from engine.contract.budget import SYNTHESIS
from engine.contract.synthesize import supports_counter_examples
from engine.distributed.rows import Rows
from engine.inference.crash_isolation import MARKERS
from engine.prompts import flow, quota
from engine.prompts.quota import QuotaKey
from engine.prompts.resolve_flow import Resolution
from engine.prompts.synthesizer import SynthesizerSpec
from engine.records.prompts import SynthesisMetrics, SynthesisQuota
from engine.rows import REJECTED
from engine.runs.job import JobContext


class Extended(NamedTuple):
    """All rows, read and written."""

    resolution: Resolution
    rows_in: int  # read or requested
    metrics: SynthesisMetrics


def extend(context: JobContext, rows: Rows, resolution: Resolution, *, files: int) -> Extended:
    """Write prompts until the quotas are full or the rounds are over.

    Args:
        files: number of source files; each synthesis counts as one more.
    """
    section, cpu = context.contract.prompts, context.profile.cpu
    counts = flow.count(resolution, cpu)
    rows_in = counts["disposition"].total()
    quotas = quota.quotas(section.synthesize, section.layers, counts["layer"])
    specs = _specs(context, files)
    units = [unit.name for unit in context.contract.specialist.task_units if supports_counter_examples(unit)]
    requested: Counter[QuotaKey] = Counter()
    spent: Counter[str] = Counter()
    (context.ledger / MARKERS / "synthesis").remove()  # crashes of an earlier run say nothing about this one
    for number in range(1, max(synthesis.rounds for synthesis in section.synthesize) + 1):
        kept = _by(counts, "prompts")
        missing = {key: count - kept[key] for key, count in quotas.items()}
        requests = quota.requests(section.synthesize, missing, round=number, units_with_facts=units)
        assigned = flow.assign(resolution, requests, _by_title(requested), cpu)
        if not assigned.counts:
            break
        requested.update(assigned.counts)
        written = flow.synthesize(resolution, assigned, specs, cpu)
        spent += flow.tokens(written, cpu)
        rows = flow.join(rows, written, section, cpu)
        resolution = flow.resolve(rows, section, cpu, rounds=number)
        counts = flow.count(resolution, cpu)
    results = _quotas(quotas, requested, counts)
    for result in (result for result in results if result.missing):
        written = f"{result.kept} of {result.wanted} {result.layer} were written, {result.requested} were asked for"
        context.log(f"prompts: {result.source}: {written}")
    metrics = SynthesisMetrics(quotas=results, tokens_in=spent["tokens_in"], tokens_out=spent["tokens_out"])
    return Extended(resolution, rows_in + requested.total(), metrics)


def _specs(context: JobContext, files: int) -> list[SynthesizerSpec]:
    """Return one for each model: a process can hold one."""
    from jobs.steps.judging import model_client

    syntheses = context.contract.prompts.synthesize
    specs = []
    for model in dict.fromkeys(synthesis.model for synthesis in syntheses):
        mine = {files + number: synthesis for number, synthesis in enumerate(syntheses) if synthesis.model == model}
        specs.append(
            SynthesizerSpec(
                syntheses=tuple(mine.values()),
                specialist=context.contract.specialist,
                pool=context.profile.teacher if model else context.profile.cpu,
                client=model_client(context, model, "synthesis", payee=SYNTHESIS) if model else None,
                numbers={synthesis.title: number for number, synthesis in mine.items()},
                max_chars=context.contract.prompts.max_chars,
            )
        )
    return specs


def _by(counts: dict[str, Counter[str]], *dispositions: str) -> Counter[QuotaKey]:
    """Return the number of written rows with one of `dispositions`, by title and layer."""
    rows: Counter[QuotaKey] = Counter()
    for value, count in counts["synthetic"].items():
        source, layer, disposition = value.split("|")
        if disposition in dispositions:
            rows[source.removeprefix("synthesize/"), layer] += count
    return rows


def _by_title(requested: Counter[QuotaKey]) -> Counter[str]:
    titles: Counter[str] = Counter()
    for (title, _), count in requested.items():
        titles[title] += count
    return titles


def _quotas(
    quotas: dict[QuotaKey, int], requested: Counter[QuotaKey], counts: dict[str, Counter[str]]
) -> tuple[SynthesisQuota, ...]:
    kept, rejected = _by(counts, "prompts"), _by(counts, *REJECTED)
    return tuple(
        SynthesisQuota(
            source=f"synthesize/{title}",
            layer=layer,
            wanted=count,
            requested=requested[title, layer],
            valid=requested[title, layer] - rejected[title, layer],
            kept=kept[title, layer],
            missing=count - kept[title, layer],
        )
        for (title, layer), count in quotas.items()
    )
