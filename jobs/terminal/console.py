"""Lines and tables on the terminal. The output of Ray and vLLM goes to a log file."""

import logging
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TextIO

from engine.records.estimate import Estimate

log = logging.getLogger("rayleigh")

CLEAR_LINE = "\r\x1b[2K"


class Console:
    """Prints lines, and on a terminal a last line with the progress of each job, which is overwritten."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.out: TextIO = out or sys.stdout
        self.is_terminal = self.out.isatty() and os.environ.get("TERM") != "dumb"  # a dumb one cannot overwrite a line
        self._going: dict[str, str] = {}  # job -> its last line of progress
        self._lock = threading.Lock()  # jobs of one wave report from their own threads

    def log(self, line: str) -> None:
        """Print `line`. A line `job: ...` also ends the progress of that job."""
        with self._lock:
            self._going.pop(line.partition(":")[0], None)
            self._write((CLEAR_LINE if self.is_terminal else "") + line + "\n" + self._status())

    def progress(self, line: str) -> None:
        """Show the line `job: progress` until the next one; without a terminal only the log gets it."""
        log.info("%s", line)
        if self.is_terminal:
            with self._lock:
                self._going[line.partition(":")[0]] = line
                self._write(CLEAR_LINE + self._status())

    def clear(self) -> None:
        """Remove the line of progress."""
        with self._lock:
            self._going.clear()
            self._write(CLEAR_LINE if self.is_terminal else "")

    @contextmanager
    def noise_to(self, path: Path) -> Iterator[None]:
        """Send the output of this process and its children to the file `path`; lines of this console still go to the terminal.

        It redirects file descriptors, not `sys.stdout`: Ray's processes and C++ libraries write to descriptors.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        kept = [os.dup(1), os.dup(2)]
        before = self.out
        try:
            if _is_descriptor(before):
                self.out = os.fdopen(os.dup(before.fileno()), "w", encoding="utf-8", errors="replace")
            with path.open("ab") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            with _logged_to(path):
                yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            self.clear()
            with self._lock:
                duplicate, self.out = self.out, before
            if duplicate is not before:
                duplicate.close()

    def _status(self) -> str:
        width = shutil.get_terminal_size().columns - 1
        return " | ".join(self._going.values())[:width] if self.is_terminal else ""

    def _write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()


def columns(rows: Sequence[Sequence[object]], *, head: Sequence[str]) -> str:
    """Return `rows` below `head` as a table of plain text; columns of numbers are right-aligned."""
    from rich.console import Console as RichConsole  # 50 ms that commands without a table need not pay
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    for index in range(len(head)):
        is_number = bool(rows) and all(isinstance(row[index], int | float | None) for row in rows)
        table.add_column(justify="right" if is_number else "left", no_wrap=True)
    table.add_row(*map(Text, head))
    table.add_row(*(Rule(characters="-", style="") for _ in head))
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    plain = RichConsole(file=StringIO(), width=1_000_000, color_system=None)  # as wide as it gets: no cell is cut off
    with plain.capture() as capture:
        plain.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def interval(estimate: Estimate | None) -> str:
    """Return a number with its interval as text."""
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})" if estimate else "-"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def _is_descriptor(stream: TextIO) -> bool:
    try:
        return stream.fileno() >= 0
    except OSError:  # a stream in memory, as in tests
        return False


@contextmanager
def _logged_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()
