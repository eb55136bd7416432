"""Amounts as Kubernetes writes them: `500m` CPUs, `16Gi` of memory."""

import re
from decimal import Decimal

UNITS = {"": 1, "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3")}
UNITS |= {unit: 10 ** (3 * power) for power, unit in enumerate("kMGTPE", start=1)}
UNITS |= {f"{unit}i": 2 ** (10 * power) for power, unit in enumerate("KMGTPE", start=1)}
PATTERN = re.compile(r"([+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?")


def parse(value: object) -> Decimal | None:
    """Return the amount in units (bytes, CPUs, devices); None if `value` is no quantity."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    match = PATTERN.fullmatch(str(value))
    if not match:
        return None
    number, unit = match[1], match[2] or ""
    return Decimal(f"{number}{unit}") if unit[:1] in ("e", "E") and unit[1:] else Decimal(number) * UNITS[unit]
