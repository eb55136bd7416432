"""A data file as a stream of its decompressed bytes. What its first bytes contradict is refused before a row is read."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from engine.readers.paths import compression_of, format_of
from engine.retry import open_reader, with_retries

READ_ERRORS = (OSError, ValueError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)
"""What reading a damaged file raises. A ValueError may be one of UTF-8."""

OPENERS: dict[str, Callable[[Any], Any]] = {
    "gzip": lambda raw: gzip.GzipFile(fileobj=raw),
    "bz2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "zstd": lambda raw: _arrow(raw, "zstd"),
    "lz4": lambda raw: _arrow(raw, "lz4"),
}
MAGIC = {  # first bytes of files that are no text
    b"\x1f\x8b": "gzip data (.gz)",
    b"BZh91AY&SY": "bzip2 data (.bz2)",
    b"\xfd7zXZ\x00": "xz data (.xz)",
    b"\x28\xb5\x2f\xfd": "Zstandard data (.zst)",
    b"\x04\x22\x4d\x18": "LZ4 data (.lz4)",
    b"PK\x03\x04": "a ZIP archive or an Excel workbook, which has to be unpacked or exported",
    b"PAR1\x15": "Parquet (.parquet)",
    b"\xff\xfe": "UTF-16 text, which has to be saved as UTF-8",
    b"\xfe\xff": "UTF-16 text, which has to be saved as UTF-8",
}


@contextmanager
def open_binary(url: str) -> Iterator[BinaryIO]:
    """Open the file at `url` for reading; what its ending says is decompressed.

    Raises:
        StoreUnreachable: the store behind the URL cannot be reached, now or while it is read.
        OSError: it cannot be opened.
        ValueError: it holds other data than its ending says, or is Parquet that was compressed once more.
    """
    fs, inside = fsspec.url_to_fs(url)
    compression, form = compression_of(url), format_of(url)
    if form == "parquet" and compression:
        raise ValueError("Parquet is compressed inside: unpack the file, so that it ends in .parquet")
    with open(inside, "rb") if isinstance(fs, LocalFileSystem) else open_reader(url, fs, inside) as raw:
        if form == "parquet":
            yield raw
            return
        with OPENERS[compression](raw) if compression else _buffered(raw) as file:
            if not compression and (kind := next((kind for magic, kind in MAGIC.items() if file.peek(10).startswith(magic)), "")):
                raise ValueError(f"its ending says {form}, it holds {kind}")
            yield file


def size_of(url: str) -> int:
    """Return the bytes of the file at `url`; 0 if its store does not tell them."""
    fs, inside = fsspec.url_to_fs(url)
    size = fs.size(inside) if isinstance(fs, LocalFileSystem) else with_retries(url, lambda: fs.size(inside))
    return size or 0


def _buffered(raw: Any) -> Any:
    return raw if hasattr(raw, "peek") else io.BufferedReader(raw)


def _arrow(raw: Any, codec: str) -> Any:
    return io.BufferedReader(pa.CompressedInputStream(raw, codec))  # pyright: ignore[reportArgumentType]
