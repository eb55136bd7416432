"""Numbers as people and models write them, read exactly or not at all."""

import re
import sys
import unicodedata
from fractions import Fraction
from typing import NamedTuple

from engine.checks.magnitudes import magnitude

MAX_CHARS = 60  # of a number with its unit
MAX_POWER = 999  # largest exponent that is computed

CHARACTERS = {
    **dict.fromkeys("\u2212\u2013\u2012\u2010\u2011\ufe63\uff0d", "-"),
    **dict.fromkeys("\u00d7\u22c5\u2217\u2715\u00b7\u2219\u2022", "*"),
    **dict.fromkeys("\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "),
    **dict.fromkeys("\u200b\u2060\ufeff\u00ad\u200e\u200f\u061c", ""),  # zero width, and marks of direction
    **dict.fromkeys("\u2018\u2019\u02bc\u00b4\uff07\u066c", "'"),
    **{"\u066b": ".", "\uff0e": ".", "\uff0c": ",", "\uff0b": "+", "\uff05": "%", "\u066a": "%", "\u2026": "..."},
    **{"\u2103": "\u00b0C", "\u2109": "\u00b0F", "\u2126": "\u03a9", "\u212b": "\u00c5", "\u212a": "K", "\u2044": "/"},
}
SUPERSCRIPTS = dict(zip("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b", "0123456789+-", strict=True))
RAISED = re.compile(f"[{''.join(SUPERSCRIPTS)}]+")
OVERLINED = re.compile("(?:[0-9][\u0304\u0305])+")  # combining macron or overline
LATEX = (  # (pattern, replacement), in this order
    (re.compile(r"\\boxed\s*\{(.*)\}|\\\((.*)\\\)|\\\[(.*)\\\]", re.DOTALL), lambda found: next(filter(None, found.groups()), "")),
    (re.compile(r"^\$+(.*?)\$+$", re.DOTALL), r"\1"),
    (re.compile(r"^\*\*(.*)\*\*$", re.DOTALL), r"\1"),
    (re.compile(r"\\!|\\(?:left|right|displaystyle)(?![a-zA-Z])"), ""),
    (re.compile(r"\\[,;: ]|~|\\q?quad(?![a-zA-Z])"), " "),
    (re.compile(r"\{([.,])\}"), r"\1"),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])"), "*"),
    (re.compile(r"\^\{?\s*\\circ\s*\}?|\\degree(?![a-zA-Z])"), "\u00b0"),
    (re.compile(r"\^\s?\{([^{}]*)\}"), r"^\1"),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf|operatorname|mbox|unit)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\([%$])"), r"\1"),
    (re.compile(r"\\mu(?![a-zA-Z])\s?"), "\u00b5"),
    (re.compile(r"\\(?:ldots|dots|cdots)(?![a-zA-Z])"), "..."),
    (re.compile(r"(\d?)\s*\\[dtc]?frac\s*(?:\{(\d+)\}\s*\{(\d+)\}|(\d)\s*(\d))"), lambda found: _fraction(*found.groups())),
)

TOKEN = r"(?:\d+(?: \d{3}(?![\d/])|[',._]\d+)*|[.,]\d+)"
TIMES_TEN = r"\s?[*x]\s?10\s?(?:\^|\*\*)\s?\{?\(?(?P<ten>[-+]?\d{1,3})\)?\}?(?!\d)"
NUMBER = re.compile(
    rf"(?P<sign>[-+]?)(?:(?P<whole>\d+) )?(?P<above>\d+)\s?/\s?(?P<below>\d+)(?![\d/]|[.,]\d)"
    rf"|(?P<minus>[-+]?)(?P<token>{TOKEN})(?:[.,]?\\(?:overline|bar|dot)\{{(?P<line>\d+)\}}|[.,]\((?P<period>\d+)\)|[.,](?![\d(.]))?"
    rf"(?:[eE](?P<e>[-+]?\d{{1,3}})(?!\d)|{TIMES_TEN}|\s?(?:\^|\*\*)\s?\(?(?P<power>[-+]?\d{{1,3}})\)?(?!\d))?"
)
IN_PROSE = re.compile(rf"(?<![\w.,:/^])(?:{NUMBER.pattern})")
ATTACHED_LETTER = re.compile(r"[kMB](?!\w)")
PERCENT = re.compile(r"\s?(?:%|per ?cent\b)")
OTHER_COUNT = re.compile(r":\d|[Ke](?!\w)|\s?(?:dozens?|gross|scores?|pairs?|ppm|ppb|ppt)\b")
"""After a number: the text is another number than the one before it."""
SPACED = re.compile(r"([1-9]\d{0,2}(?:([ '_])\d{3})(?:\2\d{3})*)(?:[.,](\d+))?")
GROUPED = re.compile(r"[1-9]\d{0,2}(?:([.,])\d{3})(?:\1\d{3})*|[1-9]\d?(?:,\d{2})+,\d{3}")  # the latter as in India
NO_PROSE = re.compile(r"(?=.*\d)(?:[^\w]|[\deExX_])+", re.DOTALL)  # a digit, and no letters but those of notations
WORDS = re.compile(r"[^\W\d_]{3,}[^\w]+[^\W\d_]{2,}")
CURRENCIES = "$\u20ac\u00a3\u00a5\u20b9"
CURRENCY = re.compile(rf"^([-+]?)\s?([{CURRENCIES}])\s?(?=[\d.,])")
UNIT_BEGINS = re.compile(rf"(?![*x]\s?\d)/?\s?(?:[^\W\d]|[%\u2030\u00b0{CURRENCIES}])|1\s?/\s?[^\W\d]")

COMMA_LANGUAGES = frozenset(
    "af az be bg bs ca cs da de el es et eu fi fo fr fy gl hr hu hy id is it ka kk ky lb lt lv mk mn nb nl nn no oc pl pt ro ru sk "
    "sl sq sr sv tr uk uz vi".split()
)
"""Languages with a decimal comma (CLDR, numbers/symbols)."""
POINT_LANGUAGES = frozenset("bn cy en fil ga gu he hi ja kn ko ml mr ms mt ne pa si sw ta te th tl ur yue zh".split())
"""Languages with a decimal point (CLDR, numbers/symbols)."""
POINT_REGIONS = frozenset("de-ch de-li it-ch es-mx es-us es-pr es-gt es-hn es-ni es-sv es-pa es-do es-cu es-pe".split())


class Unreadable(ValueError):
    """The text is a number that cannot be read without a guess."""


class NotANumber(ValueError):
    """The text is no finite number."""


class Quantity(NamedTuple):
    """A number and the text after it."""

    values: tuple[Fraction, ...]
    """The probable reading first; then what the same text means where other marks are used."""
    unit: str


def characters(text: str) -> str:
    """Return `text` with one sign for each minus, times, space, digit and apostrophe; superscripts as ^{2}, one half as 1/2."""
    text = RAISED.sub(lambda found: "^{" + "".join(SUPERSCRIPTS[sign] for sign in found[0]) + "}", text)
    text = re.sub(r"(\d?)([^\x00-\x7f])", lambda found: found[1] + _character(found[2], found[1]), text)
    return OVERLINED.sub(lambda found: r"\overline{" + re.sub(r"\D", "", found[0]) + "}", text)


def decimal_mark(language: str) -> str:
    """Return the decimal mark of a language or locale such as `de` or `es-MX`; "" if it is not known."""
    code = language.lower().replace("_", "-")
    name = code.partition("-")[0]
    if code in POINT_REGIONS or name in POINT_LANGUAGES:
        return "."
    return "," if name in COMMA_LANGUAGES else ""


def read_quantity(text: str, language: str = "") -> Quantity:
    """Read a number, and what follows it as its unit. `language` decides between marks such as those of 1.234 and 1,234.

    Without a language, a point is a decimal mark, and commas that divide groups of three digits are not.

    Raises:
        Unreadable: it is a number of a form that cannot be read exactly.
        NotANumber: it is none, is not finite, or is longer than MAX_CHARS.
    """
    shown = plain(text) if len(text) <= 4 * MAX_CHARS else text
    if len(shown) > MAX_CHARS:
        raise NotANumber(text)
    currency = CURRENCY.match(shown)
    shown = CURRENCY.sub(r"\1", shown)
    match = NUMBER.match(shown)
    rest = shown[match.end() :].strip(" ") if match else ""
    if match is None or (rest and not UNIT_BEGINS.match(rest)):
        is_prose = WORDS.search(rest) if match else not NO_PROSE.fullmatch(re.sub(r"\\[a-zA-Z]+", "", shown))
        raise NotANumber(text) if is_prose else Unreadable(text)
    rest = shown[match.end() :] + (currency[2] if currency else "")
    values = _values(match, language)
    scales, rest = magnitude(rest, language)
    values = tuple(dict.fromkeys(value * scale for value in values for scale in scales))
    if any(abs(value) > sys.float_info.max for value in values):
        raise NotANumber(text)
    return Quantity(values, rest.strip().rstrip("."))


def plain(text: str) -> str:
    """Return `text` without LaTeX, and with one sign for each minus, times, space and digit."""
    text = characters(text.strip())
    if any(sign in text for sign in "\\${}*"):
        for pattern, replacement in LATEX:
            text = pattern.sub(replacement, text).strip()
    return text


def numbers_in(text: str) -> list[tuple[str, tuple[Fraction, ...]]]:
    """Return the numbers of prose, each as it is written, with magnitude and per cent, and its readings without a language."""
    text, found = plain(text), []
    for match in IN_PROSE.finditer(text):
        rest = text[match.end() : match.end() + MAX_CHARS].partition("\n")[0]
        letter, percent = ATTACHED_LETTER.match(rest), PERCENT.match(rest)
        scales, after = magnitude(letter[0] if letter else rest, "")
        if percent:
            scales, after = (Fraction(1, 100), Fraction(1)), rest[percent.end() :]
        elif letter:
            after = rest[1:]
        try:
            values = _values(match, "") if not OTHER_COUNT.match(rest) else ()
        except Unreadable:
            values = ()
        written = match[0].rstrip(".,") + rest[: len(rest) - len(after)]
        found.append((written.rstrip(), tuple(value * scale for value in values for scale in scales)))
    return found


def _character(sign: str, digit_before: str) -> str:
    if sign in CHARACTERS:
        return CHARACTERS[sign]
    if sign.isdecimal():
        return str(unicodedata.decimal(sign))
    fraction = unicodedata.normalize("NFKC", sign)
    if "\u2044" in fraction and fraction[-1].isdigit():
        return (" " if digit_before else "") + fraction.replace("\u2044", "/")
    return sign


def _fraction(before: str, *parts: str | None) -> str:
    above, below = (part for part in parts if part is not None)
    return f"{before}{' ' if before else ''}{above}/{below}"


def _values(match: re.Match[str], language: str) -> tuple[Fraction, ...]:
    if match["above"]:
        return (_ratio(match),)
    sign = -1 if match["minus"] == "-" else 1
    repeat = match["line"] or match["period"]
    if repeat:
        return (sign * _repeating(match["token"], repeat, has_mark=match[0][len(match["minus"] + match["token"])] in ".,"),)
    exponent = int(match["e"] or match["ten"] or 0)
    if match["power"]:
        return (sign * _power(match["token"], int(match["power"])),)
    return tuple(sign * value * Fraction(10) ** exponent for value in decimals(match["token"], language))


def _power(token: str, power: int) -> Fraction:
    if not token.isdigit() or len(token) > 4 or (int(token) == 0 and power < 0):
        raise Unreadable(token)
    return Fraction(int(token)) ** power


def _ratio(match: re.Match[str]) -> Fraction:
    whole, above, below = (int(match[name] or 0) for name in ("whole", "above", "below"))
    if not below or (match["whole"] and (above >= below or len(match["above"]) == 3)):  # 12 500/3 may be 12500/3
        raise Unreadable(match[0])
    return (-1 if match["sign"] == "-" else 1) * (whole + Fraction(above, below))


def _repeating(token: str, repeat: str, *, has_mark: bool) -> Fraction:
    """Return 0.1666... for the token 0.1 and the repeated digits 6."""
    parts = re.fullmatch(r"(\d*)([.,]?)(\d*)", token)
    if parts is None or bool(parts[2]) == has_mark:
        raise Unreadable(token)
    whole, places = parts[1], parts[3]
    tail = Fraction(int(repeat), 10 ** len(repeat) - 1)
    return int(whole or 0) + (int(places or 0) + tail) / 10 ** len(places)


def decimals(token: str, language: str) -> tuple[Fraction, ...]:
    """Return the readings of digits with marks: one, or two where a mark may be of decimals or of thousands.

    Raises:
        Unreadable: the marks are neither.
    """
    if token.isdigit():
        return (Fraction(token),)
    if spaced := SPACED.fullmatch(token):
        return (Fraction(f"{re.sub('[^0-9]', '', spaced[1])}.{spaced[3] or 0}"),)
    marks = re.sub(r"\d", "", token)
    if set(marks) - {".", ","}:
        raise Unreadable(token)
    whole, _, places = token.rpartition(marks[-1])
    if len(set(marks)) == 2:
        if marks.count(marks[-1]) > 1 or not GROUPED.fullmatch(whole):
            raise Unreadable(token)
        return (Fraction(f"{re.sub('[.,]', '', whole)}.{places}"),)
    grouped = Fraction(token.replace(marks[0], "")) if GROUPED.fullmatch(token) else None
    if len(marks) > 1:
        if grouped is None:
            raise Unreadable(token)
        return (grouped,)
    decimal, mark = Fraction(f"{whole or 0}.{places}"), decimal_mark(language)
    if grouped is None:
        return (decimal,)
    readings = (decimal, grouped) if marks == (mark or ".") else (grouped, decimal)
    return readings[:1] if mark == "." else readings
