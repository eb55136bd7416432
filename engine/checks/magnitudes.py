"""Words for magnitudes: thousand, Mio., crore, by language where a word means two."""

import re
from collections.abc import Iterator
from fractions import Fraction

WORDS = {
    2: "hundred",
    3: "thousand thousands tausend tsd mille mila duizend tusen tusind tys tysi\u0105ce tysi\u0119cy \u0442\u044b\u0441 "
    "\u0442\u044b\u0441\u044f\u0447 \u0442\u044b\u0441\u044f\u0447\u0430 \u0442\u044b\u0441\u044f\u0447\u0438",
    5: "lakh lakhs lac",
    6: "million millions millionen mio mln mn mill milli\u00f3n mill\u00f3n millones milh\u00e3o milh\u00f5es milione "
    "milioni milion miliony milion\u00f3w miljoen miljon miljoner millioner milyon milj \u043c\u043b\u043d "
    "\u043c\u0438\u043b\u043b\u0438\u043e\u043d \u043c\u0438\u043b\u043b\u0438\u043e\u043d\u0430 "
    "\u043c\u0438\u043b\u043b\u0438\u043e\u043d\u043e\u0432",
    7: "crore crores",
    9: "bn milliard milliards milliarde milliarden mrd mia miliardo miliardi miliard miliardy miliard\u00f3w miljard miljarder "
    "milyar \u043c\u043b\u0440\u0434 \u043c\u0438\u043b\u043b\u0438\u0430\u0440\u0434 "
    "\u043c\u0438\u043b\u043b\u0438\u0430\u0440\u0434\u0430 \u043c\u0438\u043b\u043b\u0438\u0430\u0440\u0434\u043e\u0432",
    12: "billionen billones bill\u00f3n biljoen biljon biljoner \u0442\u0440\u043b\u043d",
}
POWERS = {word: power for power, words in WORDS.items() for word in words.split()}
IN_LANGUAGE = {"mil": {"es": 3, "pt": 3, "ca": 3, "gl": 3}, "bin": {"tr": 3}, "tr": {"tr": 12}, "md": {"fr": 9}, "mds": {"fr": 9}}
SHORT_AND_LONG = {"billion": (9, 12), "billions": (9, 12), "trillion": (12, 18), "trillions": (12, 18)}
"""Word -> power of ten in English today, and in languages and texts with the long scale."""
SIGNS = {"\u5343": 3, "\u4e07": 4, "\u842c": 4, "\u767e\u4e07": 6, "\u5104": 8, "\u4ebf": 8}
ATTACHED = {"k": 3, "M": 6, "B": 9}  # 5k, 5M, 5B; only directly after the number, and with nothing behind
WORD = re.compile(r"\s*([^\W\d_]+)\.?(?=\s|$|-)")
WORDS_AFTER_A_NUMBER = 3  # mil millones, hundred thousand


def magnitude(rest: str, language: str) -> tuple[tuple[Fraction, ...], str]:
    """Return the factors that the words at the beginning of `rest` may mean, the probable one first, and what follows them."""
    if rest.rstrip(".") in ATTACHED:
        return (Fraction(10) ** ATTACHED[rest.rstrip(".")],), ""
    if rest.startswith("k "):
        return (Fraction(1000),), rest[2:]
    scales: tuple[Fraction, ...] = (Fraction(1),)
    for _ in range(WORDS_AFTER_A_NUMBER):
        powers, length = _powers(rest, language.lower().replace("_", "-").partition("-")[0])
        if not powers:
            break
        scales, rest = tuple(scale * Fraction(10) ** power for power in powers for scale in scales), rest[length:]
    return scales, rest


def _powers(rest: str, language: str) -> tuple[tuple[int, ...], int]:
    """Return the powers of ten that the first word may mean, and its length; no powers if it is no magnitude."""
    signs = max((sign for sign in SIGNS if rest.lstrip().startswith(sign)), key=len, default="")
    if signs:
        return (SIGNS[signs],), len(rest) - len(rest.lstrip()) + len(signs)
    match = WORD.match(rest)
    if match is None:
        return (), 0
    return tuple(_meanings(match[1].lower(), language)), match.end()


def _meanings(word: str, language: str) -> Iterator[int]:
    if word in SHORT_AND_LONG:
        short, long = SHORT_AND_LONG[word]
        yield from (short,) if language == "en" else (short, long) if language in ("", "pt") else (long, short)
    elif power := POWERS.get(word) or IN_LANGUAGE.get(word, {}).get(language):
        yield power
