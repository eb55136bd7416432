"""A number with its unit is in bounds and close to a reference."""

import math
from typing import Any, NamedTuple

from engine.checks.numbers import NotANumber, Unreadable, read_quantity
from engine.checks.reference import ResolvedReference, extracted, resolve_reference, same_text, short, unreadable_reference
from engine.checks.result import CheckInput, CheckResult, field_value, passed, result
from engine.checks.units import NotConvertible, convert, is_unit, parts_per
from engine.contract.checks import Numeric

ROUNDING = 1e-12  # relative error of a conversion between units, which no tolerance has to allow


class NotComparable(Exception):
    """A value that is not a number in the wanted unit: (tag, detail)."""


class Measure(NamedTuple):
    """The readings of a number, the probable one first, in `unit`; "" for a bare number."""

    numbers: tuple[float, ...]
    unit: str


def check_numeric(inputs: CheckInput, check: Numeric) -> CheckResult:
    """Pass if the value is a number in [`min`, `max`] and close to the reference.

    With a unit, the value must have one that converts to it (pint); a reference without a unit is in `check.unit`. Without one, 50%
    is 0.5, and value and reference have the same unit or none. A value that is the reference only where other decimal marks or
    words are used than the prompt's language has, or without its per cent, is `unreadable_number`.
    """
    reference = resolve_reference(inputs, check.reference, check.type) if check.reference else None
    if reference and reference.missing:
        return reference.missing
    exists, value = field_value(inputs.answer, check.field)
    if not exists:
        return result(check.type, "no_field", f"no field {check.field!r}")
    if value is None:
        return result(check.type, "")
    if isinstance(value, str):
        value = extracted(value, check.reference)
    expected = None
    if reference and check.reference:
        try:
            language = "en" if reference.is_json_number else inputs.language
            expected = read_measure(reference.text, check.unit or "", language, unit_optional=True)
        except NotComparable:
            has_bounds = check.min is not None or check.max is not None
            if _is_nothing(reference) or has_bounds or not same_text(str(value), reference.text):
                return unreadable_reference(check.reference, check.type, reference.text)
            return passed(check.type, f"compared as text: the reference {short(reference.text)} cannot be read")
    return result(check.type, *_tag(value, check, expected, inputs.language))


def read_measure(value: Any, unit: str, language: str = "", *, unit_optional: bool = False) -> Measure:
    """Read the number in `value`, converted to `unit`; with `unit_optional`, `value` may have no unit.

    `unit` "" stands for none: per cent is then a number, and another unit is returned as it is written.

    Raises:
        NotComparable: `value` is not a finite number, cannot be read exactly, or its unit does not convert.
    """
    shown = f"{value!r:.80}"
    if isinstance(value, bool | list | dict):
        raise NotComparable("not_a_number", shown)
    try:
        quantity = read_quantity(str(value), "en" if isinstance(value, int | float) else language)
    except Unreadable:
        raise NotComparable("unreadable_number", f"{shown} cannot be read exactly") from None
    except NotANumber:
        raise NotComparable("not_a_number", shown) from None
    numbers = tuple(float(number) for number in quantity.values)
    if not unit and (parts := parts_per(quantity.unit)):
        return Measure(tuple(float(number / parts) for number in quantity.values) + numbers, "")
    if not unit and quantity.unit and not is_unit(quantity.unit):
        raise NotComparable("not_a_number", shown)
    if not unit or (unit_optional and not quantity.unit):
        return Measure(numbers, quantity.unit)
    return Measure(_converted(numbers, quantity.unit, unit), unit)


def _tag(value: Any, check: Numeric, expected: Measure | None, language: str) -> tuple[str, str]:
    try:
        actual = read_measure(value, check.unit or "", language)
        if expected is None and not check.unit and actual.unit:
            return "not_a_number", f"{value!r:.80}"
        numbers = actual.numbers if expected is None or check.unit else _in_unit_of(expected, actual, value)
    except NotComparable as error:
        tag, detail = error.args
        return tag, detail
    if (check.min is not None and numbers[0] < check.min) or (check.max is not None and numbers[0] > check.max):
        return "out_of_range", f"{value!r:.80}"
    if expected is None or _is_close(numbers[0], expected.numbers[0], check):
        return "", ""
    if any(_is_close(number, other, check) for number in numbers for other in expected.numbers):
        readings = (" or ".join(f"{number:g}" for number in measure) for measure in (numbers, expected.numbers))
        return "unreadable_number", f"{value!r:.40} may be {next(readings)}, and the reference {next(readings)}"
    return "off_reference", f"{value!r:.80}, expected {expected.numbers[0]:g}"


def _is_close(number: float, expected: float, check: Numeric) -> bool:
    tolerance = max(check.abs_tol, check.rel_tol * abs(expected))
    return abs(number - expected) <= tolerance or (bool(check.unit) and math.isclose(number, expected, rel_tol=ROUNDING))


def _in_unit_of(expected: Measure, actual: Measure, value: Any) -> tuple[float, ...]:
    """Return the numbers of `actual` in the unit of the reference, where the check itself states none."""
    if actual.unit.casefold() == expected.unit.casefold() and (actual.unit == expected.unit or len(actual.unit) > 3):
        return actual.numbers
    if not actual.unit or not expected.unit:
        wanted = f"a unit that converts to {expected.unit!r}" if expected.unit else "no unit"
        raise NotComparable("off_unit", f"{value!r:.60}, expected {wanted}, as the reference has it")
    return _converted(actual.numbers, actual.unit, expected.unit)


def _converted(numbers: tuple[float, ...], unit: str, target: str) -> tuple[float, ...]:
    try:
        return tuple(convert(number, unit, target) for number in numbers)
    except NotConvertible:
        detail = f"{unit!r:.40}, expected a unit that converts to {target!r}" if is_unit(unit) else f"{unit!r:.80}"
        raise NotComparable("off_unit", detail) from None


def _is_nothing(reference: ResolvedReference) -> bool:
    """Return whether a reference is no value: a NaN or infinity that a program wrote."""
    try:
        return not math.isfinite(float(reference.text))
    except ValueError:
        return not reference.text.strip()
