"""Calls of stores behind URLs: repeated, with growing pauses, while a store cannot be reached, and given up after a limit.

The clients of stores repeat a request for some seconds by themselves; a switch that starts again, or a store that asks for fewer
requests, takes minutes. Only what the network or a busy store causes is waited for: a missing file, a wrong key or a full store is
raised at once.
"""

import asyncio
import errno
import io
import logging
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic, sleep
from typing import Any, TypeVar
from urllib.parse import urlsplit

from engine.errors import StorageError, StoreUnreachable

log = logging.getLogger(__name__)
T = TypeVar("T")

LIMIT = 300.0  # seconds for which a store is called again that this process has reached before
FIRST_LIMIT = 60.0  # seconds for one that it has not reached yet: the address may be wrong
PAUSE, LONGEST = 1.0, 30.0  # seconds between two calls: doubled each time, at random between half and all of it
SEND_SECONDS, SLOWEST = 60.0, 2**16  # an upload may take so long, and a second more for so many bytes
BUFFER = 2**20  # bytes read at once
ATTEMPTS = 2  # at least: one call of a slow store may take longer than the limit

STATUSES = (408, 425, 429, 500, 502, 503, 504)
ERRNOS = (
    errno.EBUSY, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNABORTED, errno.ECONNREFUSED, errno.EPIPE,
    errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.ENOTCONN,
)  # fmt: skip
LOST = {
    "botocore.exceptions": ("HTTPClientError", "ConnectionError"),
    "botocore.parsers": ("ResponseParserError",),
    "aiohttp.client_exceptions": ("ClientConnectionError", "ClientPayloadError"),
    "requests.exceptions": ("ConnectionError", "Timeout", "ChunkedEncodingError"),
    "urllib3.exceptions": ("HTTPError",),
    "google.auth.exceptions": ("TransportError",),
    "azure.core.exceptions": ("ServiceRequestError", "ServiceResponseError"),
}
"""Module of a client -> its exceptions, many of them no OSError, of a connection that was not made or broke."""
CLIENTS = ("botocore", "aiobotocore", "aiohttp", "requests", "urllib3", "google", "gcsfs", "azure", "adlfs")
INSTALL = {"gcsfs": "--editable '.[gcs]'", "s3fs": "s3fs"}
"""Client of a store that is no dependency -> what installs it."""

_reached: set[str] = set()
_given_up: set[str] = set()
_is_waited_for = ContextVar("_is_waited_for", default=True)


@contextmanager
def no_waiting() -> Iterator[None]:
    """Call each store once in this context: somebody waits for a page, or asks again by himself."""
    token = _is_waited_for.set(False)
    try:
        yield
    finally:
        _is_waited_for.reset(token)


def is_reached(url: str) -> bool:
    """Return whether this process has reached the store at `url`."""
    return _store(url) in _reached


def mark_reached(url: str) -> None:
    """Let the store at `url`, which another process of this run has reached, be waited for as one that this process has reached."""
    _reached.add(_store(url))


def with_retries(url: str, call: Callable[[], T]) -> T:
    """Return what `call`, which uses the store at `url`, returns. It is repeated while the store cannot be reached.

    A store that was given up is not waited for again by this process, until a call succeeds; nor is any in `no_waiting`.

    Raises:
        StoreUnreachable: the store cannot be reached.
        StorageError: its client refuses the call, such as without keys.
        OSError: the call failed for another reason, such as a missing file.
    """
    store = _store(url)
    began, attempts, pause = monotonic(), 0, PAUSE
    while True:
        attempts += 1
        try:
            result = call()
        except Exception as error:
            if not is_lost(error):
                if type(error).__module__.partition(".")[0] in CLIENTS and not isinstance(error, OSError):
                    raise StorageError(f"{url}: {_text(error)}. Check the address and the keys.") from None
                raise
            seconds = monotonic() - began
            limit = LIMIT if store in _reached else FIRST_LIMIT
            is_over = seconds >= limit and attempts >= ATTEMPTS
            if is_over:
                _given_up.add(store)
            if is_over or store in _given_up or not _is_waited_for.get():
                raise StoreUnreachable(
                    f"{url}: the store cannot be reached: {attempts} attempts in {seconds:.0f} s, the last: {_text(error)}. Check "
                    "the network, the endpoint and the store; then run again."
                ) from None
            log.warning("%s: cannot be reached, trying again for up to %.0f s: %s", url, limit, _text(error))
        else:
            _reached.add(store)
            _given_up.discard(store)
            if attempts > 1:
                log.warning("%s: reached again after %.0f s", url, monotonic() - began)
            return result
        sleep(pause * random.uniform(0.5, 1))
        pause = min(2 * pause, LONGEST)


def _store(url: str) -> str:
    return "{0.scheme}://{0.netloc}".format(urlsplit(url))


def is_lost(error: BaseException) -> bool:
    """Return whether the network or a busy store caused `error`, so that the same call may succeed later."""
    if isinstance(error, (FileNotFoundError, FileExistsError, PermissionError)):
        return False
    if any(isinstance(error, kind) for module, names in LOST.items() for kind in _kinds(module, names)):
        return True
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True  # before the status: that of S3's RequestTimeout is 400
    if (status := _status(error)) is not None:
        return status in STATUSES
    return isinstance(error, OSError) and error.errno in ERRNOS


def _kinds(module: str, names: tuple[str, ...]) -> list[type]:
    """Return the classes `names` of `module`, if its client has been imported: else it has raised nothing."""
    found = sys.modules.get(module)
    return [getattr(found, name) for name in names if hasattr(found, name)]


def _status(error: BaseException) -> int | None:
    """Return the HTTP status with which a store has answered, as its client tells it."""
    for each in (error, error.__cause__):
        response = getattr(each, "response", None)  # botocore
        if isinstance(response, dict) and (status := response.get("ResponseMetadata", {}).get("HTTPStatusCode")):
            return int(status)
        for name in ("status", "status_code", "code"):  # aiohttp, azure, gcsfs
            if isinstance(status := getattr(each, name, None), int):
                return status
    return None


def _text(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().rstrip(".")


def send(fs: Any, path: str, data: bytes, **options: str) -> None:
    """Write `data` as the file `path` of the fsspec file system `fs`; see its `pipe_file` for `options`.

    Raises:
        TimeoutError: it takes longer than SEND_SECONDS and a second for each SLOWEST bytes. aiohttp's own timeout begins when all
            is sent, so a client sends forever to a network that takes nothing, or a store that does not answer `Expect:
            100-continue`.
        OSError: it cannot be written.
    """
    if not fs.async_impl:
        fs.pipe_file(path, data, **options)
        return
    seconds = SEND_SECONDS + len(data) / SLOWEST
    sending = asyncio.run_coroutine_threadsafe(fs._pipe_file(path, data, **options), fs.loop)
    try:
        sending.result(seconds)
    except TimeoutError:
        if sending.done():
            raise
        raise TimeoutError(f"not sent within {seconds:.0f} s") from None
    finally:
        sending.cancel()  # else it could overwrite, late, what is written next


class _Reader(io.RawIOBase):
    """A file of a store whose reads are repeated; a failed one of fsspec has not moved."""

    def __init__(self, url: str, raw: Any) -> None:
        self.url, self.raw = url, raw

    def readinto(self, buffer: Any) -> int:
        data = with_retries(self.url, lambda: self.raw.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.raw.seek(offset, whence)

    def tell(self) -> int:
        return self.raw.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self.raw.close()
        super().close()


def cannot_open(error: Exception) -> str:
    """Return why a URL cannot be opened, with the way to install the client of its store if that is what is missing."""
    wanted = next((how for client, how in INSTALL.items() if isinstance(error, ImportError) and client in str(error)), "")
    return f"{error}. Install it with `uv pip install --constraint cluster/constraints.txt {wanted}`" if wanted else str(error)


def open_reader(url: str, fs: Any, path: str) -> io.BufferedReader:
    """Return the file `path` of the fsspec file system `fs`, open for reading; `url` is its name in messages.

    Raises:
        StoreUnreachable: the store cannot be reached, now or in a later read.
        OSError: the file cannot be opened.
    """
    return io.BufferedReader(_Reader(url, with_retries(url, lambda: fs.open(path, "rb"))), BUFFER)
