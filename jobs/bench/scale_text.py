"""The tables of `rayleigh bench scale`."""

from collections.abc import Sequence

from engine.records.scale import StageUse
from engine.report.labels import brief
from jobs.bench.scale import AIM, ModelCheck, QuantityGrowth, ScaleBench
from jobs.terminal.console import columns

MIB = 2**20
HEAD = [
    "rows", "stage", "rows/s of a core", "shuffled B/row", "spilled B/row", "stored B/row", "objects", "references", "files",
    "listings", "driver MiB", "head MiB", "task MiB", "largest task",
]  # fmt: skip


def as_text(result: ScaleBench) -> str:
    """Return what each stage took, how it grows, and how well the cost model knew it."""
    parts = [
        f"{result.raylets} raylets, {result.cores} cores; {result.reference_bytes:.0f} B of the driver for each reference.",
        columns([_use(use) for use in result.uses], head=HEAD),
        _growth(result.growth),
        _checks(result.checks),
    ]
    return "\n\n".join(part for part in parts if part)


def _use(use: StageUse) -> list[object]:
    per_row = [round(size / use.rows) for size in (use.shuffled_bytes, use.spilled_bytes, use.storage_bytes)]
    memory = [round(size / MIB) for size in (use.driver_bytes, use.head_bytes, use.task_bytes)]
    counts = [use.objects, use.references, use.files, use.list_calls]
    return [f"{use.rows:,}", use.stage, round(use.rows_per_core), *per_row, *counts, *memory, use.largest_task]


def _growth(found: Sequence[QuantityGrowth]) -> str:
    steps = sorted({each.rows for each in found})
    by_key = {(each.stage, each.quantity, each.rows): each for each in found}
    rows = []
    for stage, quantity in dict.fromkeys((each.stage, each.quantity) for each in found):
        cells = [by_key.get((stage, quantity, step)) for step in steps]
        rows.append([stage, quantity, *(_step(cell) for cell in cells)])
    heads = [f"{smaller:,} to {larger:,} (x{larger / smaller:.3g})" for smaller, larger in steps]
    return f"Growth:\n{columns(rows, head=['stage', 'quantity', *heads])}" if rows else ""


def _step(cell: QuantityGrowth | None) -> str:
    if cell is None:
        return "-"
    return f"x{cell.ratio:.3g}: {cell.verdict}" if cell.ratio is not None else f"from none: {cell.verdict}"


def _checks(found: Sequence[ModelCheck]) -> str:
    if not found:
        return ""
    rows = [
        [
            each.model, f"{each.rows:,}", each.stage, each.quantity, brief(each.measured), brief(each.expected),
            f"{100 * each.error:+.0f} %", "" if abs(each.error) <= AIM else f"beyond {100 * AIM:.0f} %",
        ]
        for each in found
    ]  # fmt: skip
    within = sum(abs(each.error) <= AIM for each in found)
    head = ["model", "rows", "stage", "quantity", "measured", "expected", "error", ""]
    return f"The cost model: {within} of {len(found)} within {100 * AIM:.0f} %.\n{columns(rows, head=head)}"
