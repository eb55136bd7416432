"""A node's cache of folders that lie behind URLs: each is fetched once, verified file by file, and evicted when room is needed.

A folder is known by its content, the SHA-256 of its files. Any number of processes may ask for one at the same time: one fetches
it, under a file lock, the others wait. It has its own name only when every file is there and verified; what a killed process has
fetched whole is taken over by the next one. A process that got a folder holds it until it ends; what is held is never evicted.

The cache lies on a disk of the node: the locks are `flock`'s, which the system releases when a process dies.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock

from engine.errors import StorageError
from engine.records.record import FileEntry
from engine.storage.folder import Folder

log = logging.getLogger(__name__)

GIB = 2**30
ATTEMPTS = 3  # to fetch a file: a store may break off, or be in the middle of a change
AT_ONCE = 4  # files that are fetched at the same time
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # on the node's disk
HELD: dict[Path, int] = {}  # file `.use` -> its open descriptor, for as long as this process lives


@dataclass(frozen=True)
class NodeCache:
    """A cache of the node that uses it; plain picklable values."""

    folder: str
    """`~` is the home of the node's own user."""
    limit: int | None = None
    """Bytes of all that it holds; None = half of the disk."""

    def fetch(self, source: Folder, files: Sequence[FileEntry]) -> Path:
        """Return a folder of this node with `files` of `source`. Nothing else removes it while this process lives.

        Raises:
            StorageError: a file cannot be read or is not what `files` say, has a name that leads out of the folder, or the cache
                has no room.
        """
        for file in files:
            if PurePosixPath(file.path).is_absolute() or ".." in PurePosixPath(file.path).parts:
                raise StorageError(f"{source}: found the file name {file.path!r}, expected one inside of the folder. Correct it.")
        entry, home = self._entry(files), Path(self.folder).expanduser()
        try:
            home.mkdir(parents=True, exist_ok=True)
            entry.hold()
            if entry.is_whole():
                os.utime(entry.record)
                return entry.folder
            with FileLock(home / f"{entry.key}.lock"):
                if not entry.is_whole():
                    with FileLock(home / ".lock"):
                        self._make_room(home, entry, str(source))
                    entry.fill(source)
        except OSError as error:
            raise StorageError(
                f"{home}: {source} cannot be kept there: {error}. Make room, or name another folder in weights_cache.folder of the "
                "profile; then run again."
            ) from None
        return entry.folder

    def has(self, files: Sequence[FileEntry]) -> bool:
        """Return whether the folder with `files` is there, so that `fetch` need not ask the store."""
        return self._entry(files).is_whole()

    def _entry(self, files: Sequence[FileEntry]) -> "_Entry":
        key = hashlib.sha256(json.dumps(sorted((file.path, file.sha256) for file in files)).encode()).hexdigest()[:32]
        return _Entry(Path(self.folder).expanduser(), key, tuple(files))

    def _make_room(self, home: Path, wanted: "_Entry", source: str) -> None:
        """Evict what was not used for longest until there is room for `wanted`, and note that it is coming."""
        limit = self.limit if self.limit is not None else shutil.disk_usage(home).total // 2
        if wanted.bytes > limit:
            raise StorageError(
                f"{source} has {_gib(wanted.bytes)}, and the cache in {home} may hold {_gib(limit)}. Raise weights_cache.gib of "
                "the profile, or name a folder on a larger disk in weights_cache.folder."
            )
        others = [other for other in _entries(home) if other.key != wanted.key]
        limit = min(limit, shutil.disk_usage(home).free + sum(other.bytes for other in others if other.folder.exists()))
        total = wanted.bytes + sum(other.bytes for other in others)
        for other in sorted(others, key=_Entry.last_used):
            if total <= limit:
                break
            if other.evict():
                log.info("evicted %s from %s", other.key, home)
                total -= other.bytes
        if total > limit:
            raise StorageError(
                f"{source} has {_gib(wanted.bytes)}, and the cache in {home} has no room for it: of {_gib(limit)} "
                f"{_gib(total - wanted.bytes)} are in use by processes of this node. Raise weights_cache.gib of the profile, "
                "free space on its disk, or run fewer models at the same time."
            )
        wanted.note()


@dataclass(frozen=True)
class _Entry:
    """A folder in the cache: `KEY`, while it is not whole `KEY.part`, with what it is in `KEY.json`."""

    home: Path
    key: str
    files: tuple[FileEntry, ...]

    @property
    def folder(self) -> Path:
        return self.home / self.key

    @property
    def part(self) -> Path:
        return self.home / f"{self.key}.part"

    @property
    def record(self) -> Path:
        return self.home / f"{self.key}.json"

    @property
    def use(self) -> Path:
        return self.home / f"{self.key}.use"

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def last_used(self) -> float:
        return self.record.stat().st_mtime

    def hold(self) -> None:
        """Let no process evict it as long as this one lives. Waits for one that is evicting it."""
        if self.use not in HELD:
            descriptor = os.open(self.use, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # FileLock has no shared locks on plain files
            HELD[self.use] = descriptor

    def is_whole(self) -> bool:
        return self.record.exists() and all(_has_size(self.folder / file.path, file) for file in self.files)

    def note(self) -> None:
        """Write what it is: from then on its bytes count."""
        partial = self.record.with_suffix(".note")
        partial.write_text(json.dumps([asdict(file) for file in self.files]))
        os.replace(partial, self.record)

    def fill(self, source: Folder) -> None:
        """Fetch what is missing, and give the folder its name when all of it is verified and on the disk."""
        if self.folder.exists():  # a person has taken a file out
            shutil.rmtree(self.part, ignore_errors=True)
            os.replace(self.folder, self.part)
        self.part.mkdir(exist_ok=True)
        log.info("fetching %s, %s, into %s", source, _gib(self.bytes), self.folder)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(lambda file: _take(source, file, self.part / file.path), self.files))
        known = {self.part / file.path for file in self.files}
        for path in [path for path in self.part.rglob("*") if path.is_file() and path not in known]:
            path.unlink()
        Folder(str(self.part)).sync(file.path for file in self.files)
        os.replace(self.part, self.folder)
        Folder(str(self.home)).sync([self.record.name])

    def evict(self) -> bool:
        """Remove it; return False if a process holds it."""
        with _alone(self.use) as is_alone:
            if is_alone:
                if self.folder.exists():  # a kill in the middle of the removal must not leave a folder of that name
                    shutil.rmtree(self.part, ignore_errors=True)
                    os.replace(self.folder, self.part)
                shutil.rmtree(self.part, ignore_errors=True)
                self.record.unlink(missing_ok=True)
            return is_alone


def _take(source: Folder, file: FileEntry, target: Path) -> None:
    """Fetch `file` of `source` as `target`, unless an earlier process has.

    Raises:
        StorageError: it cannot be read, or is not what `file` says.
    """
    if _has_size(target, file) and _sha256(target) == file.sha256:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.part")
    why = ""
    for _ in range(ATTEMPTS):
        try:
            source.with_retries(file.path, lambda: source.fs.get_file(f"{source.path}/{file.path}", str(partial)))
        except StorageError:
            partial.unlink(missing_ok=True)
            raise
        except Exception as error:  # clients of stores raise classes of their own
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise
            why = f"cannot be read: {error}. Check the address, the network and the keys of this node; then run again"
            continue
        found = FileEntry(file.path, partial.stat().st_size, _sha256(partial))
        if found == file:
            os.replace(partial, target)
            return
        why = (
            f"has {found.bytes} bytes with SHA-256 {found.sha256}, expected {file.bytes} bytes with {file.sha256}. Upload the "
            "folder again, with its SHA256SUMS if it has them; then run again"
        )
    partial.unlink(missing_ok=True)
    raise StorageError(f"{source}/{file.path}: {why}.")


def _entries(home: Path) -> Iterator[_Entry]:
    for path in home.glob("*.json"):
        with suppress(OSError, ValueError, TypeError):  # it is being removed, or is no file of ours
            yield _Entry(home, path.stem, tuple(FileEntry(**file) for file in json.loads(path.read_text())))


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Yield whether no other process holds the file `path`; none can begin to until the end."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield _is_locked(descriptor)
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _has_size(path: Path, file: FileEntry) -> bool:
    return path.is_file() and path.stat().st_size == file.bytes


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"
