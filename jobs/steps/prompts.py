"""Sources in, prompts and a holdout out; what is no prompt lands beside them with its reason. More may be written from them."""

import math
import time
from collections import Counter
from typing import Any

from engine.contract.prompts import Holdout, Source
from engine.errors import InputError
from engine.prompts import files, split
from engine.rows import SYNTHESIS_FAULTS
from engine.runs.job import JobContext
from engine.storage.artifact import RowCounts


def run(context: JobContext) -> RowCounts:
    """Every row, read or written from what was read, becomes a prompt, a holdout prompt, a reject or a dropped copy."""
    from engine.prompts import flow  # Ray: whoever only asks whether the sources have changed does not wait for it
    from jobs.steps import synthesis

    section = context.contract.prompts
    clock = time.monotonic()
    slices = files.slices(_sides(context), root=context.root)
    cpu = context.profile.cpu
    rows = flow.read(slices, section, cpu)
    verdicts = flow.settle(rows, section, cpu)
    extended = synthesis.extend(context, rows, verdicts, files=len(slices)) if section.synthesize else None
    if extended:
        rows, verdicts = extended.rows, extended.verdicts
    labelled = flow.label(rows, verdicts, cpu)
    found = flow.count(labelled, cpu)
    _require_rows(found)
    for table, fates in split.FATES_OF.items():
        shards = math.ceil(sum(found["fate"][fate] for fate in fates) / section.shard_rows)
        if shards:
            context.writer.tables[table] = flow.write(labelled, context.writer.folder, table, cpu, shards=shards).table
        else:
            context.writer.put(table, split.TABLES[table].empty_table(), split.TABLES[table])
    context.writer.metrics = {
        "layers": _layers(context, found["layer"]),
        "redacted": dict(sorted(found["redacted"].items())),
        "sources": dict(sorted(found["source"].items())),
        "seconds": round(time.monotonic() - clock, 3),
        **({"synthesis": extended.metrics} if extended else {}),
    }
    rows_in = extended.rows_in if extended else found["fate"].total()
    fates = [fate for fates in split.FATES_OF.values() for fate in fates if extended or fate not in SYNTHESIS_FAULTS]
    return RowCounts(rows_in, {fate: found["fate"][fate] for fate in fates})


def source_hashes(context: JobContext) -> dict[str, Any]:
    """Return what identifies the content of every source file, so that a changed seed is named as drift."""
    paths = sorted({section.path for _, _, section in _sides(context)})
    return {name: hash for path in paths for name, hash in files.identity(path, root=context.root).items()}


def _sides(context: JobContext) -> list[tuple[str, str, Source | Holdout]]:
    section, default = context.contract.prompts, context.contract.specialist.task_units[0].name
    sources = [("train", source.task_unit or default, source) for source in section.sources]
    return [*sources, ("holdout", default, section.holdout)]


def _require_rows(found: dict[str, Counter[str]]) -> None:
    """Raise InputError if no prompt or no holdout prompt is left, naming the first reasons."""
    for table, where in (("prompts", "prompts.sources"), ("holdout", "prompts.holdout")):
        if not found["fate"][table]:
            fates = ", ".join(f"{rows} {fate}" for fate, rows in sorted(found["fate"].items()))
            faults = "".join(f"\n  {fault}" for fault in sorted(found["fault"])[:3])
            raise InputError(
                f"{where}: no row is left for the table {table}. Of {found['fate'].total()} rows read: {fates}.{faults}\n"
                "Mend the rows, or `columns` of the source in the contract."
            )


def _layers(context: JobContext, found: Counter[str]) -> dict[str, dict[str, float | None]]:
    """Shares of the layers: wanted by the contract (null if it does not say) and found."""
    wanted = context.contract.prompts.layers
    names = sorted({*wanted, *found})
    return {name: {"wanted": wanted.get(name), "found": round(found[name] / found.total(), 4)} for name in names}  # type: ignore[call-overload]
