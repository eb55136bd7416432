"""Mathematical text in forms that math-verify misreads, written as it reads them: 1e6 is 1 there, and 0.\\overline{3} is 0."""

import re
from decimal import Decimal
from fractions import Fraction

from engine.checks.magnitudes import POWERS, SHORT_AND_LONG, magnitude
from engine.checks.numbers import characters

DECIMAL = r"\d+(?:\.\d+)?"
SCIENTIFIC = re.compile(
    rf"(?<![\w.,\\^])({DECIMAL})(?:[eE]([-+]?\d{{1,3}})(?!\w|\.\d)|\s*(?:[*x]|\\times|\\cdot)\s*10\s*(?:\^|\*\*)\s*\{{?([-+]?\d{{1,3}})\}}?(?!\d))"
)
REPEATING = re.compile(r"(?<![\d.,])(\d{1,30})\.(\d{0,30})(?:\\(?:overline|bar|dot)\s*\{(\d{1,30})\}|\((\d{1,30})\))")
MIXED = re.compile(r"(?<![\d.,/^*+] )(?<![\w.,/^*+-])(\d{1,3}) (\d{1,3})/(\d{1,3})(?!\w|/|[.,]\d)")
MIXED_LATEX = re.compile(r"(?<![\w.,/^*+-])(\d{1,3})\s*\\[dtc]?frac\s*(?:\{(\d+)\}\s*\{(\d+)\}|(\d)\s*(\d))")
FRACTION = re.compile(r"\\[dtc]?frac\s*\{(\d+)\}\s*\{(\d+)\}")
BOLD = re.compile(r"(?<![\w)*])\*\*([^*\n]+|[^*\n]+\*\*[^*\n]+)\*\*(?![\w(*])")
SPACED = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:(?:\\[,;: ]|\\!|~|[ '_])\d{3})+(?![\d/])")
DOTTED = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:\.\d{3}){2,}(?![.,]?\d)")
NAMES = "|".join(sorted([*POWERS, *SHORT_AND_LONG], key=len, reverse=True))
WORDS = re.compile(rf"(?<![\w.,])((?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?)( ?(?:{NAMES})|k)\b", re.IGNORECASE)
PER_MILLE = "\u2030"
PERCENT = re.compile(rf"(?<![\w.,])({DECIMAL})\s*(\\%|%|per ?cent\b|{PER_MILLE})")
HAZARD = re.compile(
    r"\d\.\d+\.\d|\.\d+\s*(?:\.\.\.|\\[lc]?dots)|(?<![a-zA-Z])\d[eE][-+]?\d|(?<![\d.,])\d{1,3} \d{1,3}(?![\d/])"
    r"|\d\.\d*\\?(?:overline|bar|dot)"
)
COMMAND = re.compile(r"\\[a-zA-Z]+|\\?(?:text|mathrm)\s*\{[^{}]*\}")
WORD = re.compile(r"[^\W\d_]{2,}")
MAX_WHOLE = 99  # of a mixed number


def normalised(text: str) -> str:
    """Return `text` with numbers in plain digits and with one sign for each minus and times."""
    text = BOLD.sub(r"\1", characters(text).strip()).replace("\\$", "")
    text = re.sub(r"\{([.,])\}", r"\1", text)
    if not is_prose(text):
        text = re.sub(r"^([-+]) (?=[\d\\])|^= ?|(?<!\.)\.$", r"\1", text)
    text = DOTTED.sub(lambda found: found[0].replace(".", ""), text)
    text = REPEATING.sub(_repeating, SPACED.sub(lambda found: re.sub(r"\D", "", found[0]), text))
    text = SCIENTIFIC.sub(lambda found: f"{Decimal(found[1]).scaleb(int(found[2] or found[3])):f}", text)
    text = WORDS.sub(_in_digits, MIXED.sub(_improper, MIXED_LATEX.sub(_improper, text)))
    if is_prose(text) and "$" not in text and "\\(" not in text:  # read as plain text
        text = re.sub(r"\^\{([-+]?\d+)\}", r"^\1", FRACTION.sub(r"\1/\2", text))
        text = re.sub(r"(\d/\d+)\.(?!\d)", r"\1", text)
    return text


def percent_as_number(text: str) -> str:
    """Return `text` with 50% as 0.50."""
    return PERCENT.sub(lambda found: f"{Decimal(found[1]).scaleb(-3 if found[2] == PER_MILLE else -2):f}", text)


def is_prose(text: str) -> bool:
    """Return whether `text` has words beside commands of LaTeX."""
    return bool(WORD.search(COMMAND.sub(" ", text)))


def has_hazard(text: str) -> bool:
    """Return whether `text`, or the last number of prose, has a form that math-verify reads as another number."""
    found = list(HAZARD.finditer(text))
    return bool(found) and (not is_prose(text) or not re.search(r"\d", text[found[-1].end() :].lstrip("0123456789.,")))


def _repeating(found: re.Match[str]) -> str:
    places, repeat = found[2], found[3] or found[4]
    if found[4] and places:
        return found[0]  # 1.23(4) may be a measurement with its uncertainty
    value = Fraction(found[1]) + (int(places or 0) + Fraction(int(repeat), 10 ** len(repeat) - 1)) / 10 ** len(places)
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}" if found[3] else f"{value.numerator}/{value.denominator}"


def _improper(found: re.Match[str]) -> str:
    whole, above, below = (int(part[:9]) for part in found.groups() if part is not None)
    if whole > MAX_WHOLE or above >= below:
        return found[0]
    return f"{whole * below + above}/{below}" if "\\" not in found[0] else rf"\frac{{{whole * below + above}}}{{{below}}}"


def _in_digits(found: re.Match[str]) -> str:
    scales, rest = magnitude(found[2], "en")
    return found[0] if rest else f"{Decimal(found[1].replace(',', '')) * int(scales[0]):f}"
