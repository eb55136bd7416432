"""A folder on disk or behind any fsspec URL, whose files are written whole or not at all."""

import errno
import hashlib
import os
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import PurePosixPath

import fsspec
from fsspec.implementations.local import LocalFileSystem

from engine.errors import StorageError
from engine.records.record import FileEntry

CHUNK = 2**22  # bytes read at once
ANCESTORS = 3  # folders above a moved one whose entries must be on the disk: RUN/students, RUN, and the folder of RUN
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM)  # of a folder: its file system cannot, or it is another's


class Folder:
    """A folder at a local path or an fsspec URL. Picklable: a worker that receives it opens the file system anew."""

    def __init__(self, url: str) -> None:
        self.fs, path = fsspec.url_to_fs(str(url))
        self.path = path.rstrip("/")
        self.url = str(url).rstrip("/")

    def __reduce__(self) -> tuple[type["Folder"], tuple[str]]:
        return Folder, (self.url,)

    def __truediv__(self, name: str) -> "Folder":
        return Folder(f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url

    @property
    def is_local(self) -> bool:
        """Whether a rename is atomic here."""
        return isinstance(self.fs, LocalFileSystem)

    def exists(self, name: str = "") -> bool:
        """Return whether the file or folder `name` exists."""
        self.fs.invalidate_cache()
        return self.fs.exists(self._path_of(name))

    def read(self, name: str) -> bytes:
        """Return the bytes of the file `name`.

        Raises:
            StorageError: it cannot be read.
        """
        try:
            return self.fs.cat_file(self._path_of(name))
        except OSError as error:
            raise StorageError(f"{self}/{name}: cannot be read: {error}.") from None

    def measure(self, name: str) -> FileEntry:
        """Return size and hash of the file `name`. Reads it in chunks: weights may be larger than memory.

        Raises:
            StorageError: it cannot be read.
        """
        digest, size = hashlib.sha256(), 0
        try:
            with self.fs.open(self._path_of(name), "rb") as file:
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
            self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            if not self.is_local:  # object stores show an object only when its upload is complete
                self.fs.pipe_file(target, data)
                return
            partial = f"{target}.{uuid.uuid4().hex[:8]}.part"
            try:
                self.fs.pipe_file(partial, data)
                if durable:
                    _sync(partial)
                self.fs.mv(partial, target)
                if durable:
                    _sync(target.rpartition("/")[0])
            except OSError:
                if self.fs.exists(partial):
                    self.fs.rm(partial)
                raise
        except OSError as error:
            raise StorageError(
                f"{self}/{name}: cannot be written: {error}. Make room or choose a run folder that can be written; then run again."
            ) from None

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
                self.fs.pipe_file(target, data, mode="create")
                return True
            partial = f"{name}.{uuid.uuid4().hex[:8]}.part"
            self.write(partial, data, durable=True)
            try:
                os.link(self._path_of(partial), target)
            finally:
                os.unlink(self._path_of(partial))
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
        """Return the sorted paths, relative to this folder, of all files below it, or only of those directly in it."""
        self.fs.invalidate_cache()
        if not self.fs.exists(self.path):
            return []
        paths = self.fs.find(self.path, maxdepth=None if deep else 1)
        return sorted(path.removeprefix(self.path).lstrip("/") for path in paths)

    def remove(self, name: str = "") -> None:
        """Remove the file or folder `name` if it exists."""
        if self.exists(name):
            with suppress(FileNotFoundError):  # another process removed it first
                self.fs.rm(self._path_of(name), recursive=True)

    def remove_file(self, name: str) -> None:
        """Remove the file `name` if it exists: one request to a store, where `remove`, for folders too, lists what is below."""
        with suppress(FileNotFoundError):
            self.fs.rm_file(self._path_of(name))

    def rename_to(self, other: "Folder") -> None:
        """Move this folder to `other`: atomically and durably on a local disk, file by file elsewhere."""
        if self.is_local:
            self.fs.makedirs(other.path.rpartition("/")[0], exist_ok=True)
            os.rename(self.path, other.path)  # not fs.mv, which moves into a folder that another process has just made
            for ancestor in list(PurePosixPath(other.path).parents)[:ANCESTORS]:
                _sync(str(ancestor))
            return
        for path in self.files():  # s3fs would also copy the folders in one recursive move, and a store has no folders
            self.fs.mv(self._path_of(path), other._path_of(path))

    def _path_of(self, name: str) -> str:
        return f"{self.path}/{name}" if name else self.path


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
