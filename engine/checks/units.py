"""Units as people write them, converted by pint. pint evaluates its input, so it gets one name at a time."""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from engine.checks.numbers import CURRENCIES

NAME = r"(?:[^\W\d]|[%\u2030\u00b0\u00b5])+"
POWER = r"(?:\s?(?:\^|\*\*)\s?\{?\(?(?P<power>[-+]?[1-9])\)?\}?(?!\d)|(?P<attached>-?[1-9])(?!\d))?"
FACTOR = re.compile(rf"\s*(?P<sign>[*/]?)\s*(?P<name>{NAME}){POWER}")
MAX_FACTORS = 6
TURNS = re.compile("rad|rev|turn|cycle|deg|rpm")
PERCENT = re.compile(
    r"%|percents?|per cent|pct|prozent|pour ?cent|por ?cien(?:to)?|por ?cento|per ?cento|procent|procento|y\u00fczde", re.IGNORECASE
)
PER_MILLE = re.compile(r"\u2030|per ?mille?|promille", re.IGNORECASE)
WRITTEN = (  # (pattern, as factors)
    (
        re.compile(r"(?:\bdeg(?:rees?)?\.?|\u00b0) ?(C|F)(?:elsius|entigrade|ahrenheit)?\b", re.I),
        lambda found: "deg" + found[1].upper(),
    ),
    (re.compile(rf"\b(?:square|sq)\.? ({NAME})", re.IGNORECASE), r"\1^2"),
    (re.compile(rf"\b(?:cubic|cu)\.? ({NAME})", re.IGNORECASE), r"\1^3"),
    (re.compile(rf"({NAME}) squared\b", re.IGNORECASE), r"\1^2"),
    (re.compile(rf"({NAME}) cubed\b", re.IGNORECASE), r"\1^3"),
    (re.compile(r"\s*\b(?:per|pro)\b\s*"), "/"),
    (re.compile(r"(?<=[^\W\d])[-.](?=[^\W\d])"), "*"),
    (re.compile(r"/\s?\(([^()/]+)\)"), lambda found: "/" + re.sub(r"\s*\*\s*|(?<=\S) +(?=[^\W\d])", "/", found[1])),
)
ALIASES = {  # name -> factors that are tried where pint does not know the name, or reads it as a unit of another kind
    "Nm": "N*m", "kNm": "kN*m", "MNm": "MN*m", "Ncm": "N*cm", "Nmm": "N*mm", "Ws": "W*s", "kWs": "kW*s", "As": "A*s",
    "Vs": "V*s", "Js": "J*s", "Pas": "Pa*s", "mPas": "mPa*s", "C": "degC", "F": "degF", "c": "degC", "\u00b0": "degree",
    "kmh": "km/h", "Kmh": "km/h",
    "mps": "m/s", "fps": "ft/s", "sqm": "m^2", "qm": "m^2", "sqkm": "km^2", "qkm": "km^2", "sqft": "ft^2", "cbm": "m^3",
    "ccm": "cm^3",
    "Km": "km", "KM": "km", "Kg": "kg", "KG": "kg", "Kgs": "kg", "Hr": "hour", "Hrs": "hour", "Sec": "second", "Secs": "second",
    "Min": "minute", "Mins": "minute", "gm": "g", "gms": "g", "ltr": "liter", "ltrs": "liter",
}  # fmt: skip


class NotConvertible(ValueError):
    """A text is no unit, or one of another kind than the target."""


class Factor(NamedTuple):
    """A unit with an integer power."""

    name: str
    power: int


def factors(text: str) -> list[Factor] | None:
    """Return the factors of a product such as kg*m^2/s2, m s-1, 1/min or km per hour; None if `text` is none."""
    for pattern, replacement in WRITTEN:
        text = pattern.sub(replacement, text)
    text, found, end = re.sub(r"^1\s?(?=/)", "", text.strip()), [], 0
    while end < len(text):
        match = FACTOR.match(text, end)
        if match is None or len(found) == MAX_FACTORS or (match["sign"] == "*" and not found):
            return None
        power = int(match["power"] or match["attached"] or 1)
        found.append(Factor(match["name"], -power if match["sign"] == "/" else power))
        end = match.end()
    return found or None


def parts_per(unit: str) -> int | None:
    """Return 100 for per cent, 1000 for per mille, None for another unit."""
    return 100 if PERCENT.fullmatch(unit) else 1000 if PER_MILLE.fullmatch(unit) else None


def is_unit(text: str) -> bool:
    """Return whether `text` has the form of a unit: a product of few names, or a currency."""
    return (len(text) == 1 and text in CURRENCIES) or (len(text.split()) <= 3 and factors(text) is not None)


def convert(number: float, unit: str, target: str) -> float:
    """Return `number` of `unit` in `target`.

    Raises:
        NotConvertible: `unit` or `target` is no unit that pint knows, or they measure something else.
    """
    import pint

    if unit == "rpm" and not TURNS.search(target):
        unit = "1/min"  # pint counts in radians
    for prefer_aliases in (False, True):
        try:
            quantity = pint.application_registry.Quantity(number, _unit(unit, prefer_aliases))
            return float(quantity.to(_target(target)).magnitude)
        except Exception:  # pint's parser raises many types of error for text that is not a unit
            continue
    raise NotConvertible(unit)


@lru_cache(maxsize=1024)
def _target(name: str) -> Any:
    import pint

    try:
        return pint.application_registry.parse_units(name)
    except Exception:  # a unit of a reference, as people write it
        return _unit(name, False)


@lru_cache(maxsize=1024)
def _unit(text: str, prefer_aliases: bool) -> Any:
    import pint

    product = pint.application_registry.dimensionless
    for name, power in factors(text) or _no_unit(text):
        product = product * _named(name, prefer_aliases) ** power
    return product


def _no_unit(text: str) -> list[Factor]:
    raise NotConvertible(text)


def _named(name: str, prefer_aliases: bool) -> Any:
    import pint

    if prefer_aliases and name in ALIASES:
        return pint.application_registry.parse_units(ALIASES[name])
    spellings = [name, ALIASES.get(name, name), name.removesuffix("s")]
    if len(name) > 3 and name[1:].islower():  # Meter at the beginning of a sentence, or in German
        spellings += [name.lower(), name.lower().removesuffix("s")]
    for spelling in spellings:
        try:
            return pint.application_registry.parse_units(spelling)
        except Exception:  # see convert
            continue
    raise NotConvertible(name)
