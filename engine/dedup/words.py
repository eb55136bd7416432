"""Words, normalized text and n-grams: the definition in plain Python. `kernel` computes the same from Arrow's buffers.

Word boundaries follow Unicode's UAX 29, simplified: a word is a run of letters, digits, underscores and their marks (the vowel
signs of Hindi or Thai are marks). Case is folded after the Unicode standard, section 3.13.
"""

import unicodedata

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


def words(text: str) -> list[str]:
    """Return the words of `text`, case folded, without punctuation."""
    return text.casefold().translate(_SPACED).split()


def normalize(text: str) -> str:
    """Return `text` with its case folded and runs of white space as one space; exact duplicates have the same normalized text."""
    return " ".join(text.casefold().split())


def uses_characters(text: str) -> bool:
    """Return whether unit `auto` means characters for `text`: if at least half of its word characters are of unspaced scripts."""
    letters = [] if text.isascii() else [character for character in text if is_word(character)]
    return bool(letters) and 2 * sum(map(is_unspaced, letters)) >= len(letters)


def ngrams(text: str, size: int, unit: str = "auto") -> list[str]:
    """Return every run of `size` words, joined by a space, or of `size` characters of the words joined by a space.

    A shorter text is one n-gram; a text without a word has none.
    """
    tokens = words(text)
    if unit == "character" or (unit == "auto" and uses_characters(text)):
        joined = " ".join(tokens)
        return [joined[start : start + size] for start in range(max(1, len(joined) - size + 1))] if joined else []
    return [" ".join(tokens[start : start + size]) for start in range(max(1, len(tokens) - size + 1))] if tokens else []
