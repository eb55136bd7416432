"""Rows of JSON: an object a line, or one array of objects."""

import codecs
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

from engine.readers.raw import LINE_LIMIT, RAW_CHARS, RawRow, Wanted, has_surrogates, printable

CHUNK = 1 << 20  # bytes of an array that are read at once
BEGIN, END, NOTHING = re.compile(r"\["), re.compile(r"\]"), re.compile(r"\Z")
SPACE, SEPARATOR = re.compile(r"\s*"), re.compile(r"\s*(?:,|(?=\]))")


def read_json(file: BinaryIO, wanted: Wanted) -> Iterator[RawRow]:
    """Yield one row for each line, or for each element of a file that is one array of objects."""
    head = _until_text(file)
    first = head[-1].removeprefix(codecs.BOM_UTF8).strip() if head else b""
    if first == b"{":
        raise ValueError("it is one JSON object over several lines; write one object a line, or an array of objects")
    if first.startswith(b"["):
        is_line = _is_array(first)
        head += _until_text(file) if is_line else []
        if not is_line or (not head[-1].strip() and _is_array(first, with_object=True)):
            yield from read_array(itertools.chain(head, iter(lambda: file.read(CHUNK), b"")), wanted)
            return
    yield from _objects(_lines(file, head), wanted)


def _until_text(file: BinaryIO) -> list[bytes]:
    """Return the lines up to the first one that is not blank, or to the end of the file, where the last one is empty."""
    lines = []
    while not lines or (lines[-1] and not lines[-1].removeprefix(codecs.BOM_UTF8).strip()):
        lines.append(file.readline(LINE_LIMIT))
    return lines


def _is_array(text: bytes, *, with_object: bool = False) -> bool:
    """Return whether `text` is a whole array of JSON (with an object in it)."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, list) and (not with_object or not value or any(isinstance(item, dict) for item in value))


def _objects(lines: Iterable["Line"], wanted: Wanted) -> Iterator[RawRow]:
    """Yield one row for each line that is not blank. Lines are decoded one by one, so that an invalid byte costs one row."""
    row = -1
    for number, line, is_whole in lines:
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not line.strip():
            continue
        row += 1
        if not wanted(row):
            continue
        text = line[:RAW_CHARS].decode("utf-8", "replace").rstrip("\r\n")
        if not is_whole:
            yield RawRow(number, {}, text, "too_long", f"the line has more than {LINE_LIMIT} bytes")
            continue
        try:
            value = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield RawRow(number, {}, text, "encoding", f"not UTF-8: byte {line[error.start]:#04x} at position {error.start}")
        except (ValueError, RecursionError) as error:
            yield RawRow(number, {}, text, "unreadable", f"not JSON: {error}")
        else:
            yield _object(number, value, text)


def _object(line: int, value: Any, text: str) -> RawRow:
    if isinstance(value, dict):
        return RawRow(line, value, text)
    return RawRow(line, {}, text, "unreadable", f"found {type(value).__name__}, expected a JSON object")


def read_array(chunks: Iterable[bytes], wanted: Wanted) -> Iterator[RawRow]:
    """Yield one row for each element of a JSON array of any size.

    Raises:
        ValueError: what follows is no JSON, or comes after the end of the array; the elements before it were yielded.
    """
    text = _Text(chunks)
    text.match(BEGIN)
    number = 0
    while not text.match(END):
        value, source = text.value(f"element {number + 1} of the array")
        number += 1
        if wanted(number - 1):
            raw = printable(source[:RAW_CHARS])
            yield RawRow(number, {}, raw, "encoding", "not UTF-8") if has_surrogates(source) else _object(number, value, raw)
    if not text.match(NOTHING):
        raise ValueError(f"found {text.rest()!r} after the end of the array, expected one array, or one object a line")


class _Text:
    """Text of a file that is read as far as is needed."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._decode = json.JSONDecoder().raw_decode
        self._chunks, self._buffer, self._at = iter(chunks), "", 0

    def match(self, pattern: re.Pattern[str]) -> bool:
        """Skip `pattern` if it comes next, behind white space."""
        self._skip_space()
        if found := pattern.match(self._buffer, self._at):
            self._at = found.end()
        return bool(found)

    def value(self, what: str) -> tuple[Any, str]:
        """Return the next value and its text, and skip the comma behind it. Raises ValueError if there is none."""
        self._skip_space()
        while True:
            try:
                value, stop = self._decode(self._buffer, self._at)
                problem = f"found {self._buffer[stop : stop + 20]!r} after {what}, expected ',' or ']'"
                if after := SEPARATOR.match(self._buffer, stop):
                    source, self._at = self._buffer[self._at : stop], after.end()
                    return value, source
            except (ValueError, RecursionError) as error:
                problem = f"{what} is no JSON: {error}"
            if not self._more():
                raise ValueError(problem)

    def rest(self) -> str:
        """Return the next characters."""
        return self._buffer[self._at : self._at + 20]

    def _skip_space(self) -> None:
        while True:
            self._at = SPACE.match(self._buffer, self._at).end()  # pyright: ignore[reportOptionalMemberAccess]
            if self._at < len(self._buffer) or not self._more():
                return

    def _more(self) -> bool:
        self._buffer, self._at = self._buffer[self._at :], 0
        if len(self._buffer) > LINE_LIMIT or not (chunk := next(self._chunks, b"")):
            return False
        # A value over several chunks is parsed again with each: with as much more as there is, it is parsed a few times only.
        more = [chunk, *itertools.islice(self._chunks, len(self._buffer) // CHUNK)]
        self._buffer += self._decoder.decode(b"".join(more))
        return True


class Line(NamedTuple):
    """A line of a file."""

    number: int  # from 1
    content: bytes  # of a line over LINE_LIMIT only the beginning
    is_whole: bool


def _lines(file: BinaryIO, head: list[bytes]) -> Iterator[Line]:
    """Yield the lines of a file, of which `head` has been read."""
    reads = itertools.chain(filter(None, head), iter(lambda: file.readline(LINE_LIMIT), b""))
    for number, line in enumerate(_joined(reads), 1):
        yield Line(number, *line)


def _joined(reads: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield (line, is whole); of a line over LINE_LIMIT only the beginning."""
    for line in reads:
        is_whole = at_end = len(line) < LINE_LIMIT or line.endswith(b"\n")
        while not at_end:
            more = next(reads, b"")
            at_end = not more or more.endswith(b"\n")
        yield line, is_whole
