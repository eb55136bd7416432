"""A number with its unit is in bounds and close to a reference."""

import math
import re
from functools import lru_cache
from typing import Any

from engine.checks.fields import check_value
from engine.checks.reference import missing_reference, resolve_reference
from engine.checks.result import CheckInput, CheckResult, result
from engine.contract.checks import Numeric

NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)\s*(.*?)\s*", re.DOTALL)
# Names, small powers, products: pint evaluates its input, so a tower of powers must not reach it.
NAME = r"(?:[^\W\d]|[%\u00b0\u00b5])+(?:(?:\^|\*\*)?-?[1-9])?"
UNIT = re.compile(rf"{NAME}(?: ?[*/\u00b7 ] ?{NAME}| per {NAME}){{0,5}}")
MAX_CHARS = 60  # of a number with its unit


class NotComparable(Exception):
    """A value that is not a number in the wanted unit: (tag, detail)."""


def check_numeric(inputs: CheckInput, check: Numeric) -> CheckResult:
    """Pass if the value is a number in [`min`, `max`] and close to the reference; thousands commas are allowed.

    With a unit, the value must have one that converts to it (pint); a reference without a unit is in `check.unit`.
    """
    reference = resolve_reference(inputs, check.reference, check.type) if check.reference else None
    if reference and reference.missing:
        return reference.missing
    try:
        expected = read_number(reference.text, check.unit, unit_optional=True) if reference else None
    except NotComparable:
        return missing_reference(check.reference, check.type) if check.reference else result(check.type, "no_reference")
    return check_value(inputs, check, lambda value: _tag(value, check, expected))


def read_number(value: Any, unit: str | None, *, unit_optional: bool = False) -> float:
    """Return the number in `value`, converted to `unit`; with `unit_optional`, `value` may have no unit.

    Raises:
        NotComparable: `value` is not a finite number, or its unit does not convert.
    """
    shown = f"{value!r:.80}"
    text = str(value).replace(",", "")
    match = NUMBER.fullmatch(text) if len(text) <= MAX_CHARS and not isinstance(value, bool) else None
    number = float(match[1]) if match else math.nan
    if match is None or not math.isfinite(number) or (match[2] and unit is None):
        raise NotComparable("not_a_number", shown)
    if unit is None or (unit_optional and not match[2]):
        return number
    return _converted(number, match[2], unit)


def _tag(value: Any, check: Numeric, expected: float | None) -> tuple[str, str]:
    try:
        number = read_number(value, check.unit)
    except NotComparable as error:
        tag, detail = error.args
        return tag, detail
    if (check.min is not None and number < check.min) or (check.max is not None and number > check.max):
        return "out_of_range", f"{value!r:.80}"
    if expected is not None and abs(number - expected) > max(check.abs_tol, check.rel_tol * abs(expected)):
        return "off_reference", f"{value!r:.80}, expected {expected:g}"
    return "", ""


def _converted(number: float, unit: str, target: str) -> float:
    import pint

    if not UNIT.fullmatch(unit):
        raise NotComparable("off_unit", f"{unit!r:.80}")
    try:
        return float(pint.application_registry.Quantity(number, _unit(unit)).to(_unit(target)).magnitude)
    except Exception:  # pint's parser raises many types of error for text that is not a unit
        raise NotComparable("off_unit", f"{unit!r:.40}, expected a unit that converts to {target!r}") from None


@lru_cache(maxsize=1024)
def _unit(name: str) -> Any:
    import pint

    return pint.application_registry.parse_units(name)
