"""The gate by point values (`gate.by: point`, `--point`): the measured value is compared, however uncertain it is."""

from collections.abc import Iterator, Mapping

from engine.records.estimate import Estimate
from engine.records.gate import AT_MOST, BEATS, CHAMPION, EXAMINED, SLICES, TWIN, GateNumber
from engine.records.report import ModelEntry

COMPARED = {"retention", "retention_unseen"}


def numbers(entry: ModelEntry, thresholds: Mapping[str, float]) -> Iterator[GateNumber]:
    """Yield each requirement with the model's number. One whose number is missing from the report is missed."""
    if entry.error:
        yield GateNumber(number=EXAMINED, wanted=1.0)
    for name, threshold in thresholds.items():
        estimate, at_most = estimate_of(entry, name), name in AT_MOST
        value = None if estimate is None else estimate.value
        low, high = (estimate.low, estimate.high) if estimate and estimate.low != estimate.high else (None, None)
        passed = _is_met(entry, name, estimate, threshold)
        yield GateNumber(number=name, found=value, low=low, high=high, wanted=threshold, at_most=at_most, passed=passed)


def _is_met(entry: ModelEntry, name: str, estimate: Estimate | None, threshold: float) -> bool:
    if name in (CHAMPION, SLICES) and (test := (entry.tests or {}).get(name)) and test.value is None:
        return test.p_pass == 0.0  # nothing to compare with
    if estimate is None:
        return False
    if name.startswith(BEATS):
        return estimate.low > 0
    return estimate.value <= threshold if name in AT_MOST else estimate.value >= threshold


def estimate_of(entry: ModelEntry, name: str) -> Estimate | None:
    """Return the number of the requirement `name`; None if the report has none."""
    if name.startswith(BEATS):
        return entry.against_baselines.get(name.removeprefix(BEATS))
    if name.startswith(TWIN):
        return entry.against_twins.get(name.removeprefix(TWIN))
    if name in (CHAMPION, SLICES):
        test = (entry.tests or {}).get(name)
        if test is None or test.value is None or test.low is None or test.high is None:
            return None
        return Estimate(value=test.value, low=test.low, high=test.high)
    if name in COMPARED:
        return getattr(entry.against_teacher, name, None)
    counted = {
        "p95_ms": entry.latency and entry.latency.p95_ms,
        "cost_per_1000_accepted": entry.cost and entry.cost.per_1000_accepted,
        "parameters": entry.parameters,
        "weight_bytes": entry.weight_bytes,
    }
    if name not in counted:
        return getattr(entry.metrics, name)
    value = counted[name]
    return None if value is None else Estimate(value=value, low=value, high=value)
