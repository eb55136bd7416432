"""Records of a CSV file. One whose quote never closes costs its first line, and reading goes on behind that line."""

import csv
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Record(NamedTuple):
    """One record of a CSV file."""

    line: int  # its first, from 1
    values: list[str]
    fault: str = ""  # what is wrong with it


def records(lines: Iterable[str], delimiter: str, limit: int) -> Iterator[Record]:
    """Yield the records of `lines`, empty ones too; `limit` is the most characters of a field.

    A record over several lines is taken for one only if it ends as RFC 4180 has it. If its quote is still open where the file ends,
    if text follows the closing quote, or if a field is over the limit, the record is its first line, with a fault that says how
    many lines it took, and the others are read again.
    """
    csv.field_size_limit(limit)
    source, number = iter(lines), 0
    again: list[str] = []  # lines to be read before those of `source`, the last one first
    taken: list[str] = []  # lines of the record that is being read

    def next_lines() -> Iterator[str]:
        while (line := again.pop() if again else next(source, None)) is not None:
            taken.append(line)
            yield line

    reader = csv.reader(next_lines(), delimiter=delimiter)
    while True:
        taken.clear()
        error: csv.Error | None = None
        values: list[str] = []
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as raised:
            error = raised
        first = number + 1
        is_faulty = error is not None or _is_unclosed(taken, delimiter) or (len(taken) > 1 and not _is_strict(taken, delimiter))
        if not is_faulty:
            number += len(taken)
            yield Record(first, values)
            continue
        what = str(error) if error else "a quote does not close"
        yield Record(
            first, [taken[0].rstrip("\r\n")], f"not CSV: {what}; the record took {len(taken)} lines, the first is left out"
        )
        number += 1
        again.extend(reversed(taken[1:]))
        reader = csv.reader(next_lines(), delimiter=delimiter)


def _is_unclosed(taken: list[str], delimiter: str) -> bool:
    """Return whether the file ends within a quote of the record: then the record would take a line that follows, too."""
    if not "".join(taken).count('"') % 2:
        return False
    return sum(1 for _ in csv.reader([*taken[:-1], taken[-1].rstrip("\r\n") + "\n", "x\n"], delimiter=delimiter)) == 1


def _is_strict(taken: list[str], delimiter: str) -> bool:
    """Return whether nothing follows a closing quote but the delimiter."""
    try:
        return sum(1 for _ in csv.reader(taken, delimiter=delimiter, strict=True)) == 1
    except csv.Error:
        return False
