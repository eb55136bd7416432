"""A number with its unit: in bounds, and near a reference."""

import math
import re
from functools import lru_cache
from typing import Any

from engine.checks.fields import judge_field
from engine.checks.outcome import Outcome, Seen, outcome
from engine.checks.reference import lacks, reference
from engine.contract.checks import Numeric

NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)\s*(.*?)\s*", re.DOTALL)
# Names, small powers, products: pint evaluates what it is given, and must not be given a tower of powers.
NAME = r"(?:[^\W\d]|[%\u00b0\u00b5])+(?:(?:\^|\*\*)?-?[1-9])?"
UNIT = re.compile(rf"{NAME}(?: ?[*/\u00b7 ] ?{NAME}| per {NAME}){{0,5}}")
LONGEST = 60  # characters of a number with its unit


class Off(Exception):
    """Not a number that can be compared: (tag, detail)."""


def check_numeric(seen: Seen, check: Numeric) -> Outcome:
    """Pass if the value is a number in [`low`, `high`] and near the reference; a thousands comma is read.

    With a unit: the value must have one that converts to it (pint); a reference without one is in `check.unit`.
    """
    given = reference(seen, check.reference, check.type) if check.reference else None
    if given and given.lacks:
        return given.lacks
    try:
        wanted = read(given.text, check.unit, or_none=True) if given else None
    except Off:
        return lacks(check.reference, check.type) if check.reference else outcome(check.type, "no_reference")
    return judge_field(seen, check, lambda value: _tag(value, check, wanted))


def read(value: Any, unit: str | None, *, or_none: bool = False) -> float:
    """Return the number that `value` states, in `unit`; with `or_none` it may come without a unit.

    Raises:
        Off: it states none.
    """
    shown = f"{value!r:.80}"
    text = str(value).replace(",", "")
    match = NUMBER.fullmatch(text) if len(text) <= LONGEST and not isinstance(value, bool) else None
    number = float(match[1]) if match else math.nan
    if match is None or not math.isfinite(number) or (match[2] and unit is None):
        raise Off("not_a_number", shown)
    if unit is None or (or_none and not match[2]):
        return number
    return _converted(number, match[2], unit)


def _tag(value: Any, check: Numeric, wanted: float | None) -> tuple[str, str]:
    try:
        number = read(value, check.unit)
    except Off as off:
        tag, detail = off.args
        return tag, detail
    low, high = check.low, check.high
    if (low is not None and number < low) or (high is not None and number > high):
        return "out_of_range", f"{value!r:.80}"
    if wanted is not None and abs(number - wanted) > max(check.absolute, check.relative * abs(wanted)):
        return "off_reference", f"{value!r:.80}, expected {wanted:g}"
    return "", ""


def _converted(number: float, found: str, wanted: str) -> float:
    import pint

    if not UNIT.fullmatch(found):
        raise Off("off_unit", f"{found!r:.80}")
    try:
        return float(pint.application_registry.Quantity(number, _unit(found)).to(_unit(wanted)).magnitude)
    except Exception:  # whatever pint's parser makes of letters that are no unit
        raise Off("off_unit", f"{found!r:.40}, expected a unit that converts to {wanted!r}") from None


@lru_cache(maxsize=1024)
def _unit(name: str) -> Any:
    import pint

    return pint.application_registry.parse_units(name)
