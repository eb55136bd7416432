"""Words, normalized text and n-grams: the definition in plain Python. `kernel` computes the same from Arrow's buffers.

Word boundaries follow Unicode's UAX 29, simplified: a word is a run of letters, digits, underscores and their marks (the vowel
signs of Hindi or Thai are marks). Case is folded after the Unicode standard, section 3.13. Before that a text gets its canonical
form: characters without width (property Default_Ignorable_Code_Point, section 5.21 of the standard) are left out, and the rest is
composed (normalization form NFC, or NFKC: UAX 15).
"""

import re
import unicodedata

from engine.contract.prompts import Normalization

IGNORABLE = re.compile(  # characters without width
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)

# Scripts without spaces between words, as (first, last). Korean, Tibetan, Arabic and the others separate words.
UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han, from here on
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # half-width Katakana
    (0x20000, 0x323AF),  # no character beyond is part of a word
)


def is_word(character: str) -> bool:
    """Return whether `character` can be part of a word."""
    if character.isalnum() or character == "_":
        return True
    return unicodedata.category(character) in ("Mn", "Mc") and not unicodedata.name(character, "").startswith("VARIATION")


def is_unspaced(character: str) -> bool:
    """Return whether `character` is of a script without spaces between words."""
    return any(first <= ord(character) <= last for first, last in UNSPACED)


class _Spaced(dict[int, str]):
    """A map for `str.translate` that replaces all but words by spaces; it caches the characters that were looked up."""

    def __missing__(self, code: int) -> str:
        self[code] = chr(code) if is_word(chr(code)) else " "
        return self[code]


_SPACED = _Spaced()


def canonical(text: str, form: Normalization = "nfc") -> str:
    """Return `text` in normalization form `form`, without characters that have no width; as it is for `none`."""
    if form == "none" or text.isascii():
        return text
    return unicodedata.normalize("NFKC" if form == "nfkc" else "NFC", IGNORABLE.sub("", text))


def words(text: str) -> list[str]:
    """Return the words of `text`, canonical and case folded, without punctuation."""
    return _words(canonical(text))


def normalize(text: str, form: Normalization = "nfc") -> str:
    """Return `text`, canonical, case folded, and with runs of white space as one space; exact duplicates are equal so."""
    return " ".join(canonical(text, form).casefold().split())


def uses_characters(text: str) -> bool:
    """Return whether unit `auto` means characters for `text`: if at least half of its word characters are of unspaced scripts."""
    letters = [] if text.isascii() else [character for character in text if is_word(character)]
    return bool(letters) and 2 * sum(map(is_unspaced, letters)) >= len(letters)


def ngrams(text: str, size: int, unit: str = "auto", form: Normalization = "nfc") -> list[tuple[str, ...]]:
    """Return every run of `size` words of `text`, or of `size` characters of the words joined by a space.

    A shorter text is one n-gram; a text without a word has none.
    """
    text = canonical(text, form)
    tokens: list[str] = _words(text)
    if unit == "character" or (unit == "auto" and uses_characters(text)):
        tokens = list(" ".join(tokens))
    return [tuple(tokens[start : start + size]) for start in range(max(1, len(tokens) - size + 1))] if tokens else []


def _words(text: str) -> list[str]:
    return text.casefold().translate(_SPACED).split()
