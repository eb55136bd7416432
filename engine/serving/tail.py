"""Reads the records of a server as they appear, each row once, also across the moment in which an hour is put together."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.serving.record_files import shards


class Tail:
    """The rows of one folder of records that were not read yet.

    A stream is the rows of one writer in one hour: its segments in order, and later the file of the hour, which begins with the
    same rows. So the number of rows that were read says where to go on, in segments and in the whole hour.
    """

    def __init__(self, folder: Path, schema: pa.Schema, consumed: Mapping[str, int] | None = None) -> None:
        """`consumed`: stream -> rows of it that were read before."""
        self.folder, self.schema, self.consumed = folder, schema, dict(consumed or {})
        self.segments: dict[str, set[str]] = {}  # stream -> segments that were read whole since the start: not opened again

    def read(self) -> Iterator[pa.Table]:
        """Yield what is new, stream by stream, the oldest hour first. What a writer removes meanwhile is there at the next call."""
        streams: dict[str, list[Path]] = {}
        for path in shards(self.folder):
            streams.setdefault(_stream(path), []).append(path)
        for stream, paths in sorted(streams.items()):
            yield from self._read(stream, paths)

    def forget(self) -> None:
        """Forget streams of which no file is left: those that were removed after their time."""
        there = {_stream(path) for path in shards(self.folder)}
        self.consumed = {stream: rows for stream, rows in self.consumed.items() if stream in there}

    def _read(self, stream: str, paths: list[Path]) -> Iterator[pa.Table]:
        done = self.segments.setdefault(stream, set())
        if {path.name for path in paths} <= done:
            return
        start = 0  # of a segment in the stream
        try:
            for path in paths:
                count = pq.read_metadata(path).num_rows
                skip = max(0, self.consumed.get(stream, 0) - start)
                if skip < count:
                    rows = pq.read_table(path, schema=self.schema).slice(skip)
                    self.consumed[stream] = start + count
                    yield rows
                start += count
                done.add(path.name)
        except FileNotFoundError:
            return


def _stream(path: Path) -> str:
    """Return `<hour>-<writer>`: the name of an hour's file, or what a segment's folders are called."""
    return path.stem if path.parent.name == "hours" else f"{path.parts[-2]}-{path.parts[-3]}"
