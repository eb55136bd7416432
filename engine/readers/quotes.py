"""Records of a CSV file, strict in their quotes. A faulty one costs its first line, and reading goes on behind that line."""

import csv
from collections.abc import Iterable, Iterator
from typing import NamedTuple

AT_END = "unexpected end of data"  # what csv says of a quote that is open there


class Record(NamedTuple):
    """One record of a CSV file."""

    line: int  # its first, from 1
    values: list[str]
    fault: str = ""  # what is wrong with it


def records(lines: Iterable[str], delimiter: str, limit: int) -> Iterator[Record]:
    """Yield the records of `lines`, empty ones too; `limit` is the most characters of a field.

    A quote that begins a field ends it, as RFC 4180 has it. If it is still open where the file ends, if text follows the closing
    quote, or if a field is over the limit, the record is its first line, with a fault that says how many lines it took, and the
    others are read again.
    """
    csv.field_size_limit(limit)
    source, number = iter(lines), 0
    again: list[str] = []  # lines to be read before those of `source`, the last one first
    taken: list[str] = []  # lines of the record that is being read

    def next_lines() -> Iterator[str]:
        while (line := again.pop() if again else next(source, None)) is not None:
            taken.append(line)
            yield line

    reader = csv.reader(next_lines(), delimiter=delimiter, strict=True)
    while True:
        taken.clear()
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            what = "a quote does not close" if str(error) == AT_END else str(error)
            if len(taken) > 1:
                what += f"; the record took {len(taken)} lines, the first is left out"
            yield Record(number + 1, [taken[0].rstrip("\r\n")], f"not CSV: {what}")
            number += 1
            again.extend(reversed(taken[1:]))
            reader = csv.reader(next_lines(), delimiter=delimiter, strict=True)
        else:
            yield Record(number + 1, values)
            number += len(taken)
