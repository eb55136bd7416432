"""A folder on disk or behind any fsspec URL, whose files are written whole or not at all."""

import errno
import hashlib
import os
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import PurePosixPath
from typing import BinaryIO, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from engine.errors import StorageError
from engine.records.record import FileEntry
from engine.retry import is_reached, mark_reached, open_reader, send, with_retries

T = TypeVar("T")
CHUNK = 2**22  # bytes read at once
BUCKETS = (
    "s3",
    "s3a",
    "gs",
    "gcs",
    "az",
    "abfs",
    "abfss",
)  # without folders; asked for one, a client may make the bucket
ANCESTORS = 3  # folders above a moved one whose entries must be on the disk: RUN/students, RUN, and the folder of RUN
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM)  # of a folder: its file system cannot, or it is another's


class Folder:
    """A folder at a local path or an fsspec URL. Picklable: a worker that receives it opens the file system anew."""

    def __init__(self, url: str) -> None:
        self.fs, path = fsspec.url_to_fs(str(url))
        self.path = path.rstrip("/")
        self.url = str(url).rstrip("/")

    def __reduce__(self) -> tuple[Callable[[str, bool], "Folder"], tuple[str, bool]]:
        return _unpickled, (self.url, is_reached(self.url))

    def __truediv__(self, name: str) -> "Folder":
        return Folder(f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url

    @property
    def is_local(self) -> bool:
        """Whether a rename is atomic here."""
        return isinstance(self.fs, LocalFileSystem)

    def with_retries(self, name: str, call: Callable[[], T]) -> T:
        """Return what `call`, which works on the file or folder `name` and may be repeated, returns; see `engine.retry`.

        Raises:
            StoreUnreachable: the store behind the URL cannot be reached.
            OSError: the call failed for another reason.
        """
        return call() if self.is_local else with_retries(f"{self}/{name}" if name else str(self), call)

    def open(self, name: str) -> BinaryIO:
        """Return the file `name`, open for reading.

        Raises:
            StoreUnreachable: the store cannot be reached, now or in a later read.
            OSError: it cannot be opened.
        """
        path = self._path_of(name)
        return self.fs.open(path, "rb") if self.is_local else open_reader(f"{self}/{name}", self.fs, path)

    def exists(self, name: str = "") -> bool:
        """Return whether the file or folder `name` exists.

        Raises:
            StoreUnreachable: the store cannot be reached.
        """
        if self.is_local:
            return self.fs.exists(self._path_of(name))

        def ask() -> bool:
            self.fs.invalidate_cache()
            try:
                self.fs.info(self._path_of(name))  # not `exists`: of a bucket it is False, too, if the store cannot be reached
            except FileNotFoundError:
                return False
            return True

        return self.with_retries(name, ask)

    def read(self, name: str) -> bytes:
        """Return the bytes of the file `name`.

        Raises:
            StorageError: it cannot be read.
        """
        try:
            return self.with_retries(name, lambda: self.fs.cat_file(self._path_of(name)))
        except OSError as error:
            raise StorageError(f"{self}/{name}: cannot be read: {error}.") from None

    def measure(self, name: str) -> FileEntry:
        """Return size and hash of the file `name`. Reads it in chunks: weights may be larger than memory.

        Raises:
            StorageError: it cannot be read.
        """
        digest, size = hashlib.sha256(), 0
        try:
            with self.open(name) as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
        except OSError as error:
            raise StorageError(f"{self}/{name}: cannot be read: {error}.") from None
        return FileEntry(name, size, digest.hexdigest())

    def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """Write `data` as the file `name`, whole or not at all; `durable`: it is on the disk when this returns.

        Raises:
            StorageError: the store is read-only or full.
        """
        target = self._path_of(name)
        try:
            if not self.is_local:  # object stores show an object only when its upload is complete
                self.with_retries(name, lambda: self._upload(target, data))
                return
            folder, part = target.rpartition("/")[0], f"{target}.{uuid.uuid4().hex[:8]}.part"
            os.makedirs(folder, exist_ok=True)
            try:
                with open(part, "wb") as file:
                    file.write(data)
                if durable:
                    _sync(part)
                os.rename(part, target)
                if durable:
                    _sync(folder)
            except OSError:
                with suppress(FileNotFoundError):
                    os.unlink(part)
                raise
        except OSError as error:
            raise StorageError(
                f"{self}/{name}: cannot be written: {error}. Make room or choose a run folder that can be written; then run again."
            ) from None

    def _upload(self, target: str, data: bytes) -> None:
        if self.url.partition("://")[0] not in BUCKETS:
            self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        send(self.fs, target, data)

    def create(self, name: str, data: bytes) -> bool:
        """Write `data` as the new file `name`, whole and durably; return False if there is another. Of several writers one wins.

        A local disk links the file to its name, S3 and Google's store write on the condition that there is none. Any other store is
        only asked before whether there is one.

        Raises:
            StorageError: the store is read-only or full.
        """
        target = self._path_of(name)
        try:
            if not self.is_local:
                self.with_retries(name, lambda: send(self.fs, target, data, mode="create"))
                return True
            part = f"{name}.{uuid.uuid4().hex[:8]}.part"
            self.write(part, data, durable=True)
            try:
                os.link(self._path_of(part), target)
            finally:
                os.unlink(self._path_of(part))
            _sync(target.rpartition("/")[0])
            return True
        except OSError as error:
            if self.exists(name):  # another one's, or ours, if its store repeated a request that had succeeded
                return self.read(name) == data
            raise StorageError(
                f"{self}/{name}: cannot be written: {error}. Make room or choose a folder that can be written; then run again."
            ) from None

    def sync(self, names: Iterable[str]) -> None:
        """Wait until the files `names` are on the disk, with the folders that they are in. A store behind a URL needs none of it.

        Raises:
            StorageError: the disk reports an error.
        """
        if not self.is_local:
            return
        paths = [PurePosixPath(name) for name in names]
        folders = {str(parent) for path in paths for parent in path.parents}
        try:
            for name in [*map(str, paths), *sorted(folders, key=len, reverse=True)]:
                _sync(f"{self.path}/{name}")
        except OSError as error:
            raise StorageError(f"{self}: cannot be written to the disk: {error}. Check the disk, and run again.") from None

    def files(self, *, deep: bool = True) -> list[str]:
        """Return the sorted paths, relative to this folder, of all files below it, or only of those directly in it.

        Raises:
            StorageError: the store cannot be reached, or does not list the folder.
        """

        def paths() -> list[str]:
            self.fs.invalidate_cache()
            if deep:
                return list(self.fs.find(self.path))
            # not `find` with a depth: fsspec's own leaves out, without a word, what a busy store does not list
            return [entry["name"] for entry in self.fs.ls(self.path, detail=True) if entry["type"] != "directory"]

        try:
            found = self.with_retries("", paths)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StorageError(f"{self}: cannot be listed: {error}. Check the folder, and the rights to it.") from None
        root = self.fs._strip_protocol(self.path)
        return sorted(name for path in found if (name := path.removeprefix(root).lstrip("/")))

    def remove(self, name: str = "") -> None:
        """Remove the file or folder `name` if it exists."""
        if self.exists(name):
            with suppress(FileNotFoundError):  # another process removed it first
                self.with_retries(name, lambda: self.fs.rm(self._path_of(name), recursive=True))

    def remove_file(self, name: str) -> None:
        """Remove the file `name` if it exists: one request to a store, where `remove`, for folders too, lists what is below."""
        with suppress(FileNotFoundError):
            self.with_retries(name, lambda: self.fs.rm_file(self._path_of(name)))

    def rename_to(self, other: "Folder") -> None:
        """Move this folder to `other`: atomically and durably on a local disk, file by file elsewhere."""
        if self.is_local:
            self.fs.makedirs(other.path.rpartition("/")[0], exist_ok=True)
            os.rename(self.path, other.path)  # not fs.mv, which moves into a folder that another process has just made
            for ancestor in list(PurePosixPath(other.path).parents)[:ANCESTORS]:
                _sync(str(ancestor))
            return
        for path in self.files():  # s3fs would also copy the folders in one recursive move, and a store has no folders
            self.with_retries(path, partial(self._move, self._path_of(path), other._path_of(path)))

    def _move(self, source: str, target: str) -> None:
        try:
            self.fs.mv(source, target)
        except FileNotFoundError:
            if not self.fs.exists(target):  # else it was moved by a call whose answer was lost
                raise

    def _path_of(self, name: str) -> str:
        return f"{self.path}/{name}" if name else self.path


def _unpickled(url: str, is_reached: bool) -> Folder:
    """Return the folder at `url`; a worker that starts while its store is away knows by `is_reached` that the address is right."""
    if is_reached:
        mark_reached(url)
    return Folder(url)


def _sync(path: str) -> None:
    """Wait until a file, or the entries of a folder, are on the disk: it may be a power cut away from being empty until then."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(descriptor)
