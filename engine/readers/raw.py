"""A row of a file before anyone knows what it means."""

from collections.abc import Callable
from typing import NamedTuple

from engine.rows import Row

LINE_LIMIT = 16 << 20  # bytes of one line or cell; the rest of a longer one is skipped
RAW_CHARS = 800  # of a row that are kept as `text`

Wanted = Callable[[int], bool]
"""Takes the number of a row in its file, from 0; rows that are not wanted are counted and not parsed."""


class RawRow(NamedTuple):
    """One row as read."""

    line: int  # of the file, from 1; the row number for Parquet and a JSON array
    fields: Row
    text: str  # the row as it is in the file, at most RAW_CHARS characters
    reason: str = ""  # one of rows.REJECTED if it could not be read
    detail: str = ""


def every(row: int) -> bool:
    """Want every row."""
    return True


def printable(text: str) -> str:
    """Return `text`, in which surrogates stand for bytes that are no UTF-8, with a replacement character for each of them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def has_surrogates(text: str) -> bool:
    """Return whether a text holds bytes that are no UTF-8, as surrogates."""
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)
