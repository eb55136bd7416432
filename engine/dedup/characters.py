"""What the fast paths know of each character: the kernel's table, and which characters can change a text's canonical form."""

import unicodedata
from functools import cache
from itertools import groupby

import numpy as np

from engine.contract.prompts import Normalization
from engine.dedup.entry_types import FLAG_UNSPACED, FLAG_WORD, SIZE
from engine.dedup.words import IGNORABLE, UNSPACED, is_word

CODES = (range(0x80, UNSPACED[-1][-1] + 1), range(0xE0000, 0xE1000))  # no form changes a character beyond


@cache
def table() -> np.ndarray:
    """Return the entries of all code points that can be part of a word, and those before; 1.6 MB, a tenth of a second."""
    entries = _entries(UNSPACED[-1][-1] + 1)
    for first, last in UNSPACED:
        entries[first : last + 1] |= FLAG_UNSPACED
    return entries


@cache
def ascii_table() -> np.ndarray:
    """Return the entries of ASCII."""
    return _entries(0x80)


def _entries(count: int) -> np.ndarray:
    entries = np.zeros(count, np.uint64)
    for code, character in enumerate(map(chr, range(count))):
        folded = (" " if character.isspace() else character.casefold()).encode("utf-8", "surrogatepass")
        entries[code] = int.from_bytes(folded, "little") | len(folded) << int(SIZE) | is_word(character) * int(FLAG_WORD)
    return entries


@cache
def unstable(form: Normalization) -> str:
    """Return a pattern of RE2: a text that it does not match is its own `words.canonical` in `form`. A fifth of a second.

    It matches a character that the form changes, one that may join the character before it or change places with it, and one
    without width.
    """
    codes: set[int] = set()
    for code, character in ((code, chr(code)) for codes in CODES for code in codes):
        is_changed = unicodedata.normalize("NFKC" if form == "nfkc" else "NFC", character) != character
        if is_changed or unicodedata.combining(character) or IGNORABLE.match(character):
            codes.add(code)
        codes.update(map(ord, unicodedata.normalize("NFD", character)[1:]))
    runs = [[code for _, code in run] for _, run in groupby(enumerate(sorted(codes)), key=lambda pair: pair[1] - pair[0])]
    return "[" + "".join(f"\\x{{{run[0]:x}}}-\\x{{{run[-1]:x}}}" for run in runs) + "]"
