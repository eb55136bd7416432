"""What the stages that `rayleigh bench scale` has measured take at a size: lines of the coefficients, and what they cannot see."""

from collections.abc import Callable
from typing import NamedTuple

from engine.contract.contract import Contract
from engine.contract.profile import Profile
from engine.contract.prompts import Copies
from engine.curation.answers import PROMPTS_PER_PARTITION
from engine.records.scale import Figure, Line, ScaleModel
from engine.report.labels import brief
from jobs.commands import dedup_count
from jobs.commands.scale_fit import BLOCK, MEMORY, value, work_of
from jobs.commands.scale_nodes import Need, object_store, size

HOUR = 3600
SIZED = ("shuffled_bytes", "storage_bytes")  # in proportion to the length of the texts
FROM_LINES = ("shuffled_bytes", "storage_bytes", "files", "list_calls", "head_bytes", "task_bytes")


NOT_MEASURED = "not measured by bench scale"


class Shape(NamedTuple):
    """The work of a run, for each prompt."""

    answers: float
    """Answers to a prompt."""
    width: float
    """Characters of prompt and answer, divided by those of the benchmark."""
    rows_per_block: float
    """Prompts of a block in which their copies are searched, see `scale_files.rows_per_block`."""


class Costs:
    """Figures of the measured stages for a contract on a profile."""

    def __init__(self, model: ScaleModel, contract: Contract, profile: Profile, shape: Shape) -> None:
        self.model, self.contract, self.profile, self.shape = model, contract, profile, shape
        self.stages = {stage.stage: stage for stage in model.stages}
        self.block_of = {"prompts": int(shape.rows_per_block), "dataset": PROMPTS_PER_PARTITION}  # rows, where copies are searched

    def rows_of(self, stage: str, prompts: float) -> float:
        """Return the rows that a stage reads: prompts, or answers."""
        return prompts if stage == "prompts" else prompts * self.shape.answers

    def at(self, stage: str, quantity: str, prompts: float) -> float | None:
        """Return a quantity of `StageUse` at a number of prompts; None if it was not measured."""
        line = self.stages[stage].lines.get(quantity)
        if line is None:
            return None
        answers, shard_rows = max(1, round(self.shape.answers)), self.contract.prompts.shard_rows
        work = work_of(int(prompts), self.profile.teacher, shard_rows=shard_rows, answers=answers)
        found = value(line, work._replace(rows=self.rows_of(stage, prompts)))
        if quantity == "task_bytes":
            return found + self.grouped(stage, prompts)
        return found * self.shape.width if quantity in SIZED else found

    def grouped(self, stage: str, prompts: float) -> float:
        """Return the bytes of a group of blocks in which copies are searched: no measured size has groups of several blocks."""
        if stage not in self.block_of:
            return 0.0
        return dedup_count.group_bytes(self.rows_of(stage, prompts), self._copies(stage), rows_per_block=self.block_of[stage])

    def references(self, stage: str, prompts: float) -> float:
        """Return the references that the driver holds at most for the search for copies, which the measured sizes are too small to
        show. Of the search for equal ids in prompts those to its result are held while the next goes on."""
        if stage == "candidates":
            return 0.0
        copies, rows, block = self._copies(stage), self.rows_of(stage, prompts), self.block_of[stage]
        found = dedup_count.references(rows, copies, rows_per_block=block)
        if stage == "dataset":
            return found
        found += dedup_count.pieces(rows, None, rows_per_block=block)
        return max(found, dedup_count.references(rows, None, rows_per_block=block))

    def inlined(self, stage: str, prompts: float) -> float:
        """Return the bytes of small pieces of that search that Ray keeps in the driver's own memory."""
        if (copies := self._copies(stage)) is None:
            return 0.0
        return dedup_count.inlined_bytes(self.rows_of(stage, prompts), copies, rows_per_block=self.block_of[stage])

    def driver(self, stage: str, prompts: float) -> float:
        """Return the memory of the driver."""
        held = self.references(stage, prompts) * self.model.reference_bytes + self.inlined(stage, prompts)
        return (self.at(stage, "driver_bytes", prompts) or 0.0) + held

    def figures(self, stage: str, prompts: int) -> dict[str, Figure]:
        """Return the figures of one stage, but for tokens, GPU hours and money."""
        lines = self.stages[stage].lines
        found = {name: self._line(stage, name, prompts) for name in FROM_LINES}
        seconds, references = self.at(stage, "cpu_seconds", prompts), self.references(stage, prompts)
        cpu = lines.get("cpu_seconds")
        found["cpu_hours"] = Figure(
            value=None if seconds is None else seconds / HOUR, basis=_basis(cpu, "s") if cpu else NOT_MEASURED
        )
        found["objects"] = Figure(
            value=max(references, self.at(stage, "objects", prompts) or 0.0),
            basis=self._counted(stage) if stage in self.block_of else _basis(lines["objects"], ""),
        )
        found["driver_bytes"] = Figure(value=self.driver(stage, prompts), basis=self._basis_of_driver(stage, prompts))
        found["spilled_bytes"] = self._spilled(found["shuffled_bytes"].value)
        return found

    def _copies(self, stage: str) -> Copies | None:
        """Return how a stage searches for near copies; None if it does not."""
        return {"prompts": self.contract.prompts.copies, "dataset": self.contract.curation.minhash}.get(stage)

    def _counted(self, stage: str) -> str:
        block, where = self.block_of[stage], " as the contract's source files give" if stage == "prompts" else ""
        return f"references of the search for copies, counted in its flow for blocks of {block:,} rows{where}, or the measured line"

    def _basis_of_driver(self, stage: str, prompts: int) -> str:
        line = self.stages[stage].lines["driver_bytes"]
        parts = [_basis(line, "B")]
        if stage in self.block_of:
            parts.append(f"{self.model.reference_bytes:.0f} B for each of the objects")
            parts.append(f"{size(self.inlined(stage, prompts))} of pieces below 100 KB, which Ray keeps in the driver")
        return f"{', and '.join(parts)}{self._unseen(line, stage, prompts)}"

    def needs(self) -> list[Need]:
        """Return the memory of the driver with the head, and of the largest task, of each stage as functions of the prompts."""
        found = []
        for stage in self.stages:
            found.append(Need(stage, "driver", self._sum_of_head(stage)))
            if "task_bytes" in self.stages[stage].lines:
                found.append(Need(stage, "one task", self._of(stage, "task_bytes")))
        return found

    def _sum_of_head(self, stage: str) -> Callable[[float], float]:
        """The driver runs on the head node, beside Ray's control service."""
        return lambda prompts: self.driver(stage, prompts) + (self.at(stage, "head_bytes", prompts) or 0.0)

    def _of(self, stage: str, quantity: str) -> Callable[[float], float]:
        return lambda prompts: self.at(stage, quantity, prompts) or 0.0

    def _line(self, stage: str, quantity: str, prompts: int) -> Figure:
        line = self.stages[stage].lines.get(quantity)
        if line is None:
            return Figure(value=None, basis=_missing(stage, quantity))
        basis = _basis(line, "B" if quantity.endswith("_bytes") else "")
        if quantity in SIZED:
            basis += f", times {self.shape.width:.2g} for the length of the pilot's texts"
        elif quantity in MEMORY and line.row:
            basis += f", the line through {' and '.join(f'{rows:,}' for rows in self.model.sizes[-2:])} rows"
        if quantity == "task_bytes" and (more := self.grouped(stage, prompts)):
            basis += f", and {size(more)} of a group of blocks in which copies are searched"
        return Figure(value=self.at(stage, quantity, prompts), basis=basis + self._unseen(line, stage, prompts))

    def _unseen(self, line: Line, stage: str, prompts: int) -> str:
        if not line.unseen:
            return ""
        more = line.unseen * self.rows_of(stage, prompts)
        return f"; no growth was seen, but {line.unseen:.2g} B a row would not have been: {size(more)} more at most"

    def _spilled(self, shuffled: float | None) -> Figure:
        store = object_store(self.profile)
        if store is None or shuffled is None:
            return Figure(value=None, basis="not known: the profile declares no nodes, so the size of the object store is not")
        basis = f"at most: what is shuffled and exceeds the object stores of all nodes, {size(store)}"
        return Figure(value=max(0.0, shuffled - store), basis=basis)


def _missing(stage: str, quantity: str) -> str:
    if quantity == "task_bytes" and stage in BLOCK:
        return f"not measured above one block: both of the largest sizes need {2 * BLOCK[stage]:,} rows or more"
    return NOT_MEASURED


def _basis(line: Line, unit: str) -> str:
    parts = [size(line.fixed) if unit == "B" else f"{brief(line.fixed)} {unit}".strip()] if line.fixed else []
    slopes = {"row": line.row, "block": line.block, "batch": line.batch}
    parts += [" ".join(filter(None, (f"{slope:.3g}", unit, f"a {name}"))) for name, slope in slopes.items() if slope]
    return " + ".join(parts) or "none at any size"
