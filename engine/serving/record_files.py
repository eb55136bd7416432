"""Files of the records of requests: small segments, and one Parquet file for each hour and writer.

    <folder>/open/<writer>/<hour>/<number>.parquet    segments, written whole or not at all
    <folder>/open/<writer>.lock                       held while the writer lives
    <folder>/hours/<hour>-<writer>.parquet            a whole hour; it supersedes the writer's segments of that hour
    <folder>/shadow/{open,hours}/                     the same for the comparisons of a challenger in shadow

Several servers may write to one folder. A writer adopts the segments of those that were killed: the system releases their locks.
"""

import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from glob import glob  # of folders that are removed meanwhile it lists nothing; that of pathlib fails
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from engine.columns import documented
from engine.errors import StorageError
from engine.rows import VERSION
from engine.serving.schemas import REQUEST
from engine.storage.folder import Folder

log = logging.getLogger(__name__)

OPEN, HOURS = "open", "hours"
SHADOW_FOLDER = "shadow"
ROWS = 10_000  # in memory at once, when an hour is put together
DAY = 86_400  # seconds


def shards(folder: Path) -> list[Path]:
    """Return the files with all rows of `folder`, each row once. Segments may be put together, and removed, afterwards."""
    # segments first: those of an hour that is put together meanwhile are in its file, which is listed afterwards
    segments = [folder / OPEN / path for path in sorted(glob("*/*/*.parquet", root_dir=folder / OPEN))]
    hours = sorted((folder / HOURS).glob("*.parquet"))
    done = {path.stem for path in hours}
    return [*hours, *(path for path in segments if f"{path.parts[-2]}-{path.parts[-3]}" not in done)]


def is_records(folder: Path) -> bool:
    """Return whether `folder` holds records of requests."""
    return (folder / OPEN).is_dir() and (folder / HOURS).is_dir()


class RecordFiles:
    """The files of one writer. One thread may append while another puts hours together."""

    def __init__(self, folder: Path, *, days: float | None = None, schema: pa.Schema = REQUEST) -> None:
        """`days` after which an hour is removed; None: never. `schema`: of all rows in the folder.

        Raises:
            StorageError: the folder cannot be written.
        """
        self.folder, self.days, self.schema = folder, days, schema
        try:
            for name in (OPEN, HOURS):
                (folder / name).mkdir(parents=True, exist_ok=True)
            self.lock = self._lock()
        except OSError as error:
            raise StorageError(f"{folder}: cannot be written: {error}. Choose another folder for the records.") from None
        self.number, self.hour = 0, ""
        self.appends = threading.Lock()  # held while a segment is written

    @property
    def writer(self) -> str:
        """Name of this writer."""
        return Path(self.lock.lock_file).stem

    def append(self, rows: pa.Table) -> None:
        """Write `rows` as one segment; it is on the disk when this returns.

        Raises:
            StorageError: the disk is full, or refuses.
        """
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="zstd")
        with self.appends:
            self.number += 1
            place = Folder(str(self.folder / OPEN / self.writer / self._now()))
            place.write(f"{self.number:08d}.parquet", sink.getvalue().to_pybytes(), durable=True)

    def close_hours(self) -> None:
        """Put together the hours that are over, take over what killed writers left, and remove what is too old."""
        with self.appends:  # from now on no segment of an earlier hour is written
            before = self._now()
        self._compact(self.writer, before)
        self._adopt()
        oldest = time.time() - self.days * DAY if self.days is not None else 0.0
        for path in (self.folder / HOURS).glob("*.parquet"):
            with suppress(FileNotFoundError):  # another server removes it, too
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def _now(self) -> str:
        self.hour = max(self.hour, _hour(time.time()))  # a clock that is set back reopens no hour
        return self.hour

    def close(self) -> None:
        """Put together what this writer has written, and release its lock."""
        self._compact(self.writer)
        self._remove(self.lock)

    def _lock(self) -> FileLock:
        while True:
            lock = FileLock(self.folder / OPEN / f"{os.getpid()}-{uuid.uuid4().hex[:12]}.lock", timeout=0)
            lock.acquire()
            if Path(lock.lock_file).exists():  # else another writer took it for that of a killed one
                return lock

    def _adopt(self) -> None:
        for path in sorted((self.folder / OPEN).glob("*.lock")):
            if path.stem == self.writer:
                continue
            lock = FileLock(path, timeout=0)
            try:
                lock.acquire()
            except Timeout:
                continue  # it lives
            self._compact(path.stem)
            self._remove(lock)

    def _remove(self, lock: FileLock) -> None:
        """Remove a writer without segments."""
        place = self.folder / OPEN / Path(lock.lock_file).stem
        if not any(place.glob("*/*.parquet*")):
            shutil.rmtree(place, ignore_errors=True)
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()

    def _compact(self, writer: str, before: str | None = None) -> None:
        for place in sorted((self.folder / OPEN / writer).glob("*")):
            if place.is_dir() and (before is None or place.name < before):
                target = self.folder / HOURS / f"{place.name}-{writer}.parquet"
                if not target.exists():  # else it was put together, and its writer killed before the segments were removed
                    _merge(place, target, self.schema)
                shutil.rmtree(place)


def _merge(place: Path, target: Path, schema: pa.Schema) -> None:
    """Write all segments in `place` as the file `target`, whole or not at all."""
    partial = target.with_suffix(f".{uuid.uuid4().hex[:8]}.part")
    try:
        described = documented(schema, version=VERSION)
        with pq.ParquetWriter(partial, described, compression="zstd") as writer:
            for rows in _batches(place, schema):
                writer.write_table(rows.cast(described))
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    Folder(str(target.parent)).sync([target.name])


def _batches(place: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    for path in sorted(place.glob("*.parquet")):
        held.append(pq.read_table(path, schema=schema))
        if sum(rows.num_rows for rows in held) >= ROWS:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def _hour(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H")
