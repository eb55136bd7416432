"""Mathematical equality with a reference (math-verify), in a worker process: sympy does not return from `9^{9^{9^9}}`."""

import json
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from engine.checks.math_text import has_hazard, is_prose, normalised, percent_as_number
from engine.checks.numbers import NotANumber, Quantity, Unreadable, decimal_mark, numbers_in, read_quantity
from engine.checks.reference import extracted, resolve_reference, same_text, states, unreadable_reference
from engine.checks.result import CheckInput, CheckResult, field_value, passed, result
from engine.checks.units import NotConvertible, convert, is_unit, parts_per
from engine.contract.checks import Mathematics
from engine.sandbox.worker_process import CallLimits, Exceeded, WorkerProcess

NEAR = Fraction(1, 1000)
"""Numbers that differ by more than this share are not equal. math-verify rounds to six places, so that 1e-9 is 1e-8 there."""
ROUNDING = 1e-12  # relative error of a conversion between units
OTHER_COUNTS = frozenset(("dozen", "gros", "score", "pair", "ppm", "ppb", "ppt", "k", "e"))  # not the number itself
BARE = re.compile(r"^[^,]*[\d=+*/^|][^,]*$")  # x^2
NOT_IN_PROSE = re.compile(r"^[^\\$]*(?:[<>\[\](]|\b[a-z]\s?[-+*/^]|[-+*/]\s?[a-z]\b|\d[a-z]\b)[^\\$]*$")  # math-verify finds no a+b
LATEX_ONLY = re.compile(r"[{<>\[\]]|,\s|\d[xyznpuvwe](?![a-z])")  # 2^{10}, x<2, [1, 2], 5x


def check_math(inputs: CheckInput, check: Mathematics) -> CheckResult:
    """Pass if the value equals the reference: 1/2, 0.5 and \\frac{2}{4} are equal, {1, 2} and {2, 1} too. Null passes.

    Equal texts are equal. Numbers are compared exactly as far as they can be read. Where neither side is mathematics, texts are
    compared.
    """
    exists, value = field_value(inputs.answer, check.field)
    reference = resolve_reference(inputs, check.reference, check.type)
    if not exists:
        return result(check.type, "no_field", f"no field {check.field!r}")
    if reference.missing or value is None:
        return reference.missing or result(check.type, "")
    answer = extracted(value, check.reference) if isinstance(value, str) else json.dumps(value)
    if same_text(answer, reference.text):
        return result(check.type, "")
    detail = f"{value!r:.80}, expected {reference.text:.80}"
    pair = _quantity(answer, inputs.language), _quantity(reference.text, inputs.language)
    tag = _numbers_tag(*pair)
    if tag is None:
        try:
            tag = _worker(check.seconds, check.memory_mib)(json.dumps([answer, reference.text]))
        except Exceeded as error:
            return result(check.type, "timed_out", str(error))
    is_text = tag in ("text", "no_reference", "not_math") or (tag == "off_reference" and pair[1] is None)
    if is_text and "\\boxed" not in answer and states(answer, reference.text):
        return result(check.type, "")
    if tag == "text" and len(answer.split()) <= len(reference.text.split()) + 1:  # a label, not a sentence with one
        return result(check.type, "" if same_text(answer.lower(), reference.text.lower()) else "off_reference", detail)
    if tag in ("text", "no_reference"):
        return unreadable_reference(check.reference, check.type, reference.text)
    units = {quantity.unit.casefold().removesuffix("s") for quantity in pair if quantity is not None}
    if tag or len(units) < 2 or _numbers_tag(*pair) == "":
        return result(check.type, tag, detail)
    if "" in units and not (units & OTHER_COUNTS):
        return passed(check.type, f"only one side has a unit: {detail}")
    return result(check.type, "unreadable_number", detail)


def _quantity(text: str, language: str) -> Quantity | None:
    """Return the number that `text` is as a whole; None if it is another expression, such as the list 1,5."""
    try:
        quantity = read_quantity(text, language)
    except (Unreadable, NotANumber):
        return None
    if re.fullmatch(r"\D*\d+,(?!\d{3}(?!\d))\d+\D*", text) and decimal_mark(language) != ",":
        return None
    if quantity.unit and not is_unit(quantity.unit):
        return None
    if parts := parts_per(quantity.unit):
        return Quantity((quantity.values[0] / parts, *quantity.values), "")
    return quantity


def _numbers_tag(answer: Quantity | None, reference: Quantity | None) -> str | None:
    """Return the tag for two numbers; None if math-verify has to compare."""
    if answer is None or reference is None or bool(answer.unit) != bool(reference.unit):
        return None
    if answer.unit == reference.unit:
        if answer.values[0] == reference.values[0]:
            return ""
        if any(value == other for value in answer.values for other in reference.values):
            return "unreadable_number"
        return "off_reference" if _is_far(answer.values[0], reference.values[0]) else None
    try:
        number, expected = convert(float(answer.values[0]), answer.unit, reference.unit), float(reference.values[0])
    except NotConvertible:
        return None
    return "" if abs(number - expected) <= ROUNDING * abs(expected) else "off_reference"


def _is_far(number: Fraction, other: Fraction) -> bool:
    return abs(number - other) > NEAR * max(abs(number), abs(other))


def _is_written(number: Fraction, text: str) -> bool:
    """Return whether a number that math-verify reads in `text` is one there, and no part of another: 12.500,75, 5 dozen."""
    return any(not _is_far(abs(number), abs(value)) for _, values in numbers_in(text) for value in values)


class Equality:
    """Compares two expressions; runs in a worker process."""

    description = "compares two expressions"

    def __init__(self) -> None:
        import math_verify  # takes a second; imported when the process starts, outside the time limit of the first call

        self.library = math_verify

    def __call__(self, argument: str) -> str:
        """Return the tag for the JSON list [answer, reference]; `text` if neither is mathematics."""
        texts = [normalised(text) for text in json.loads(argument)]
        if has_hazard(texts[1]):
            return "no_reference"
        if has_hazard(texts[0]):
            return "unreadable_number"
        tag = self._compare(*(percent_as_number(text) for text in texts))
        if tag == "off_reference" and ("%" in texts[0]) != ("%" in texts[1]) and not self._compare(*texts):
            return "unreadable_number"  # 50% and 50
        return tag

    def _compare(self, answer_text: str, reference_text: str) -> str:
        answer, reference = self._read(answer_text), self._read(reference_text)
        if not reference:
            return "no_reference" if answer else "text"
        if is_prose(answer_text) and not re.search(r"[\\$]", answer_text) and NOT_IN_PROSE.search(reference_text):
            return "no_reference"
        if not answer:
            return "not_math"
        if not self.library.verify(reference, answer, timeout_seconds=None):
            return "off_reference"
        numbers = [_quantity(str(parsed[-1]), "en") for parsed in (answer, reference)]
        pair = [number.values[0] for number in numbers if number is not None and not number.unit]
        if len(pair) < 2:
            return ""
        if not _is_written(pair[1], reference_text):
            return "no_reference"
        return "off_reference" if _is_far(*pair) else "" if _is_written(pair[0], answer_text) else "unreadable_number"

    def _read(self, text: str) -> list[Any]:
        """Parse `text`. math-verify recognises LaTeX only between delimiters, so bare LaTeX gets dollars."""
        # Parsing has no timeout of its own: the process has one.
        is_bare = "$" not in text and "\\boxed" not in text and "\\(" not in text and "\\[" not in text
        is_latex = "\\" in text or (bool(LATEX_ONLY.search(text)) and not is_prose(text))
        parsed = self.library.parse(f"${text}$" if is_bare and is_latex else text, parsing_timeout=0)
        if not parsed and is_bare and not is_latex and BARE.search(text) and not is_prose(text):
            parsed = self.library.parse(f"${text}$", parsing_timeout=0)
        return parsed


@lru_cache(maxsize=8)
def _worker(seconds: int, memory_mib: int) -> WorkerProcess:
    return WorkerProcess(Equality, CallLimits(seconds, memory_mib))
