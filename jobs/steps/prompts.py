"""Read sources, and perhaps write more prompts from them; the result is prompts, a holdout, rejects and dropped copies."""

import math
import time
from collections import Counter

from engine.contract.prompts import Holdout, Source
from engine.distributed import in_process
from engine.errors import InputError
from engine.prompts import files, flow, tables
from engine.records.dedup import SharedWords
from engine.records.prompts import LayerShare, PromptsMetrics
from engine.rows import SYNTHESIS_FAULTS, WITHDRAWN
from engine.runs.job import JobContext
from engine.storage.artifact import RowCounts
from engine.storage.identity import file_identities
from jobs.steps import earlier, synthesis

MEMORY_FACTOR = 20  # bytes in memory for a byte of a source, which may be compressed


def run(context: JobContext) -> RowCounts:
    """Run the job: each row, read or synthesized, is written to exactly one table."""
    with in_process.flows(is_in_process(context), context.profile.cpu):
        return _run(context)


def _run(context: JobContext) -> RowCounts:

    section = context.contract.prompts
    started = time.monotonic()
    schemas = {unit.name: unit.output.json_schema for unit in context.contract.specialist.task_units}
    source_files = files.with_schemas(files.source_files(_sources(context), root=context.root), schemas)
    cpu = context.profile.cpu
    rows = flow.read(source_files, section, cpu, earlier.runs(context, first=len(source_files) + len(section.synthesize)))
    resolution = flow.resolve(rows, section, cpu)
    extended = synthesis.extend(context, rows, resolution, files=len(source_files)) if section.synthesize else None
    if extended:
        resolution = extended.resolution
    counts = flow.count(resolution, cpu)
    flow.check_columns(counts, source_files)
    _require_rows(counts)
    for table, dispositions in tables.DISPOSITIONS_OF.items():
        shards = math.ceil(sum(counts["disposition"][name] for name in dispositions) / section.shard_rows)
        if shards:
            context.writer.tables[table] = flow.write(resolution, context.writer.folder, table, cpu, shards=shards).table
        else:
            context.writer.put(table, tables.TABLES[table].empty_table(), tables.TABLES[table])
    shared = in_process.get(resolution.shared).groups
    _show_shared(context, shared, counts["disposition"])
    for path, rows_cut in sorted(counts["cut"].items()):
        context.log(
            f"prompts: {rows_cut} conversations of {path} end with an answer: it was cut off, see `last_assistant` of the source"
        )
    context.writer.metrics = PromptsMetrics(
        layers=_layers(context, counts["layer"]),
        redacted=dict(sorted(counts["redacted"].items())),
        sources=dict(sorted(counts["source"].items())),
        cut=dict(sorted(counts["cut"].items())),
        shared=shared,
        seconds=round(time.monotonic() - started, 3),
        synthesis=extended.metrics if extended else None,
    )
    rows_in = extended.rows_in if extended else counts["disposition"].total()
    absent = {*(() if extended else SYNTHESIS_FAULTS), *(() if section.withdrawn else (WITHDRAWN,))}
    labels = [name for names in tables.DISPOSITIONS_OF.values() for name in names if name not in absent]
    return RowCounts(rows_in, {label: counts["disposition"][label] for label in labels})


def is_in_process(context: JobContext) -> bool:
    """Return whether one task would read all sources: then it is done here. Models that write prompts run on Ray."""
    if context.contract.prompts.synthesize:
        return False
    size = sum(file.bytes for file in files.source_files(_sources(context), root=context.root)) + earlier.size(context)
    return in_process.is_in_process(context.profile, size * MEMORY_FACTOR, small=size <= flow.BYTES_PER_TASK)


def source_hashes(context: JobContext) -> dict[str, str]:
    """Return file -> hash for every source file, so that a changed file is reported as a recipe mismatch; run -> fingerprint of the
    prompts of every earlier run."""
    return file_identities({section.path for _, _, section in _sources(context)}, root=context.root) | earlier.hashes(context)


def _sources(context: JobContext) -> list[tuple[str, str, Source | Holdout]]:
    """Return (split, task unit, section) of each source."""
    section, default = context.contract.prompts, context.contract.specialist.task_units[0].name
    sources = [("train", source.task_unit or default, source) for source in section.sources]
    return [*sources, ("holdout", default, section.holdout)]


def _show_shared(context: JobContext, shared: dict[str, SharedWords], counts: Counter[str]) -> None:
    """Name the words that many prompts share: those that do not count as likeness, and others if many prompts were near copies."""
    is_near = counts["near_copy"] + counts["holdout_near"] > context.contract.warn_above * counts.total()
    for group, found in {found.words: (group, found) for group, found in reversed(shared.items())}.values():  # each passage once
        line = f"prompts: {100 * found.share:.0f} % of {group} share words"
        if found.ngrams:
            context.log(f"{line}, which do not count as likeness: {found.words!r}")
        elif is_near:
            context.writer.warnings.append(f"{line}, which count as likeness: {found.words!r}.")


def _require_rows(counts: dict[str, Counter[str]]) -> None:
    """Raise InputError, with the first rejects, if no prompt or no holdout prompt is left."""
    for table, where in (("prompts", "prompts.sources"), ("holdout", "prompts.holdout")):
        if not counts["disposition"][table]:
            listed = ", ".join(f"{rows} {name}" for name, rows in sorted(counts["disposition"].items()))
            rejects = "".join(f"\n  {reject}" for reject in sorted(counts["reject"])[:3])
            raise InputError(
                f"{where}: no row is left for the table {table}. Of {counts['disposition'].total()} rows read: {listed}.{rejects}\n"
                "Correct the rows, or `columns` of the source in the contract."
            )


def _layers(context: JobContext, counts: Counter[str]) -> dict[str, LayerShare]:
    wanted: dict[str, float] = {layer: share for layer, share in context.contract.prompts.layers.items()}
    shares = {name: round(counts[name] / counts.total(), 4) for name in sorted({*wanted, *counts})}
    return {name: LayerShare(wanted=wanted.get(name), found=share) for name, share in shares.items()}
