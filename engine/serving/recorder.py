"""Keeps a row for each request, off the request's path: a bounded queue in memory, and one thread that writes it twice a second.

Another thread looks after what is on the disk once a minute: it puts hours together and removes old ones, which may take longer.

What is lost: nothing when the server stops, less than a second of rows when it is killed. When the disk cannot keep up, rows wait;
when the queue is full, new rows are dropped, counted (`rayleigh_records_dropped_total`) and reported in the log.
"""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import pyarrow as pa

from engine.contract.prompts import Entity
from engine.errors import StorageError
from engine.inference.engine import Chat
from engine.prompts.redact import redact_text
from engine.rows import Row, content_id, from_rows
from engine.serving.record_files import RecordFiles
from engine.serving.schemas import REQUEST

log = logging.getLogger(__name__)

TIDY_SECONDS = 60.0  # between two looks at hours that are over, or too old
SECONDS = 0.5  # between two writes: with the time of a write still less than a second
ROWS = 20_000  # that wait at most
CHARS = 50_000_000  # of texts and answers that wait at most
BATCH = 2_000  # rows of one segment
WARN_SECONDS = 60.0
ALL_KINDS: tuple[Entity, ...] = get_args(Entity)


class Keeping(NamedTuple):
    """What is kept, and where."""

    folder: Path
    text: bool = False
    """Keep the text of requests, redacted; else a hash of it alone."""
    kinds: tuple[Entity, ...] = ()
    """Kinds of personal data that are replaced in texts and answers; none named: all kinds."""
    sample: float = 1.0
    """Share of the requests that are kept, 0 to 1."""
    days: float | None = None
    """After which a row is removed; None: never."""
    rows: int = ROWS
    """That wait in memory at most."""


class Counts(NamedTuple):
    """Numbers of a recorder since its start."""

    waiting: int = 0
    written: int = 0
    dropped: int = 0
    """Rows that did not fit into the queue."""
    faults: int = 0
    """Writes that failed; their rows wait."""


class Recorder:
    """Writes rows of one table."""

    def __init__(self, keeping: Keeping, schema: pa.Schema = REQUEST) -> None:
        """Open the folder. Columns of `schema` that hold texts are `prompt` and those whose names end with `answer`.

        Raises:
            StorageError: it cannot be written.
        """
        self.keeping, self.schema = keeping, schema
        self.texts = [name for name in schema.names if name == "prompt" or name.endswith("answer")]
        self.kinds = keeping.kinds or ALL_KINDS
        self.files = RecordFiles(keeping.folder, days=keeping.days, schema=schema)
        self.rows: deque[Row] = deque()
        self.chars = self.written = self.dropped = self.faults = 0
        self.warned = -WARN_SECONDS
        self.changed, self.is_closing = threading.Condition(), False
        self.closed = threading.Event()
        self.thread = threading.Thread(target=self._run, name="records", daemon=True)
        self.tidier = threading.Thread(target=self._tidy, name="record-hours", daemon=True)

    @property
    def counts(self) -> Counts:
        """What was written, and what was not."""
        return Counts(len(self.rows), self.written, self.dropped, self.faults)

    def start(self) -> None:
        """Begin to write."""
        self.tidier.start()
        self.thread.start()

    def put(self, row: Row) -> None:
        """Keep `row`, which has all columns of the table and the text of the request as it came. Returns at once."""
        if int(row["request_id"][:8], 16) >= self.keeping.sample * 2**32:
            return
        row = row if self.keeping.text else {**row, "prompt": None}
        with self.changed:
            if len(self.rows) >= self.keeping.rows or self.chars + self._chars(row) > CHARS:
                self.dropped += 1
                self._warn(f"the queue of records is full, {self.dropped} rows were dropped so far")
                return
            self.rows.append(row)
            self.chars += self._chars(row)
            if len(self.rows) == BATCH:
                self.changed.notify()

    def close(self) -> None:
        """Write all rows, and put together the hour. Returns when they are on the disk."""
        with self.changed:
            if self.is_closing:
                return
            self.is_closing = True
            self.changed.notify()
        self.closed.set()
        if self.thread.ident is not None:
            self.thread.join()

    def _run(self) -> None:
        while not self.is_closing:
            with self.changed:
                if not self.is_closing and len(self.rows) < BATCH:
                    self.changed.wait(SECONDS)
            self._write()
        for _ in range(1 + self.keeping.rows // BATCH):
            self._write()
        if self.rows:
            log.error("%d records could not be written and are lost: the disk refuses", len(self.rows))
        self.tidier.join()
        self._attempt(self.files.close)

    def _tidy(self) -> None:
        self._attempt(self.files.close_hours)
        while not self.closed.wait(TIDY_SECONDS):
            self._attempt(self.files.close_hours)

    def _write(self) -> None:
        with self.changed:
            taken = [self.rows[place] for place in range(min(BATCH, len(self.rows)))]
        if taken and self._attempt(lambda: self.files.append(from_rows(map(self._kept, taken), self.schema))):
            with self.changed:
                for _ in taken:
                    self.chars -= self._chars(self.rows.popleft())
            self.written += len(taken)

    def _attempt(self, act: Callable[[], object]) -> bool:
        try:
            act()
        except (StorageError, OSError, ValueError) as error:
            self.faults += 1
            self._warn(f"records cannot be written, {len(self.rows)} rows wait: {error}")
            time.sleep(0 if self.is_closing else SECONDS)
            return False
        return True

    def _kept(self, row: Row) -> Row:
        """Return `row` as it is written: without personal data."""
        texts = {name: redact_text(row[name], self.kinds, set()) for name in self.texts if row[name] is not None}
        return row | texts

    def _chars(self, row: Row) -> int:
        return sum(len(row[name] or "") for name in self.texts)

    def _warn(self, message: str) -> None:
        if time.monotonic() - self.warned >= WARN_SECONDS:
            self.warned = time.monotonic()
            log.warning("%s", message)


class _NoRecords:
    """Keeps nothing."""

    kinds: tuple[Entity, ...] = ()
    counts = Counts()

    def start(self) -> None:
        """Do nothing."""

    def put(self, row: Row) -> None:
        """Forget `row`."""

    def close(self) -> None:
        """Do nothing."""


NO_RECORDS = _NoRecords()


def prompt_hash(messages: Sequence[dict[str, str]] | Chat) -> str:
    """Return a hash of the messages of a request: equal requests have equal hashes."""
    return content_id(json.dumps(list(messages)))
