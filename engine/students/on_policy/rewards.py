"""Rewards of samples by the contract's checks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from engine.checks import CheckInput, run_checks
from engine.contract.checks import Check
from engine.contract.specialist import Specialist, TaskUnit
from engine.rows import Row
from engine.students.on_policy.schemas import SAMPLE


@dataclass(frozen=True)
class Rewards:
    """The checks that reward answers; plain picklable values."""

    checks: Sequence[Check]
    weights: Mapping[str, float]
    """Name of a check -> its weight."""
    specialist: Specialist

    @staticmethod
    def of(checks: Sequence[Check], weights: Mapping[str, float], specialist: Specialist) -> "Rewards":
        """Return the rewards by those of `checks` that have weights."""
        return Rewards([check for check in checks if check.title in weights], weights, specialist)

    @property
    def task_units(self) -> set[str]:
        """Names of the task units of which a check speaks."""
        units = [unit.name for unit in self.specialist.task_units]
        return {name for name in units for check in self.checks if not check.task_units or name in check.task_units}

    def __call__(self, row: Row) -> tuple[float, list[str]]:
        """Return the reward of the SAMPLE `row`, 0 to 1, and the names of the checks that it fails."""
        unit: TaskUnit = self.specialist.unit(row["task_unit"])
        inputs = CheckInput.of({**row, "messages": row["asked"]}, unit)
        results = run_checks(self.checks, inputs, finish_reason=row["finish_reason"])
        weights = [self.weights[each.check] for each in results]
        earned = sum(weight for weight, each in zip(weights, results, strict=True) if each.passed)
        return earned / sum(weights), [each.check for each in results if not each.passed]


def rewarded(samples: pa.Table, rewards: Rewards) -> pa.Table:
    """Return SAMPLE rows with their rewards."""
    rows = samples.to_pylist()
    for row in rows:
        row["reward"], row["failed"] = rewards(row)
    return pa.Table.from_pylist(rows, schema=SAMPLE)
