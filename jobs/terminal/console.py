"""Our own lines on the terminal; the noise of Ray and vLLM in a log file."""

import logging
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

log = logging.getLogger("rayleigh")

CLEAR_LINE = "\r\x1b[2K"


class Console:
    """Writes lines that stay, and on a terminal one more that tells how each job goes and is written over."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.out: TextIO = out or sys.stdout
        self.is_terminal = self.out.isatty()
        self._going: dict[str, str] = {}  # job -> what it said last
        self._lock = threading.Lock()  # jobs of one wave tell from their own threads

    def log(self, line: str) -> None:
        """Print `line`; it stays."""
        with self._lock:
            self._going.pop(line.partition(":")[0], None)
            self._write((CLEAR_LINE if self.is_terminal else "") + line + "\n" + self._status())

    def progress(self, line: str) -> None:
        """Show a line of progress, `job: how it goes`, until the next; without a terminal only the log gets it."""
        log.info("%s", line)
        if self.is_terminal:
            with self._lock:
                self._going[line.partition(":")[0]] = line
                self._write(CLEAR_LINE + self._status())

    def settle(self) -> None:
        """Take the line of progress away."""
        with self._lock:
            self._going.clear()
            self._write(CLEAR_LINE if self.is_terminal else "")

    @contextmanager
    def noise_to(self, path: Path) -> Iterator[None]:
        """Send what this process and its children write to `path`, and keep the terminal for our own lines.

        File descriptors are moved, not `sys.stdout`: Ray's processes and C++ libraries write to those.
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
            self.settle()
            with self._lock:
                ours, self.out = self.out, before
            if ours is not before:
                ours.close()

    def _status(self) -> str:
        width = shutil.get_terminal_size().columns - 1
        return " | ".join(self._going.values())[:width] if self.is_terminal else ""

    def _write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()


def columns(rows: Sequence[Sequence[object]], *, head: Sequence[str]) -> str:
    """Return `rows` below `head` in aligned columns; numbers stand to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(line[index]) for line in [list(head), *cells]) for index in range(len(head))]
    right = [bool(rows) and all(isinstance(row[index], int | float | None) for row in rows) for index in range(len(head))]
    padded = [
        [cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in zip(line, widths, right, strict=True)]
        for line in [list(head), ["-" * width for width in widths], *cells]
    ]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def _is_descriptor(stream: TextIO) -> bool:
    try:
        return stream.fileno() >= 0
    except OSError:  # a stream in memory, as tests use
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
