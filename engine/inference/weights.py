"""Where a model's files lie: in a folder that every node has, in a package of every node, or behind a URL, from which each node
fetches them into its cache. What is sent to workers says where; `local` returns the folder on the node that calls it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

from engine.inference.bundled import unpack
from engine.records.record import FileEntry
from engine.storage.folder import Folder
from engine.storage.node_cache import NodeCache

HEAVY = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx")
"""Ends of the names of files with weights. All other files of a model are small."""


@dataclass(frozen=True)
class BundledModel:
    """A model inside an installed package, which each node unpacks once."""

    name: str
    home: str
    """Folder of unpacked models on the node that made this."""
    portable: str
    """The same with `~` for the home of the user: there other nodes unpack it."""


@dataclass(frozen=True)
class RemoteModel:
    """A model behind a URL, which each node fetches once."""

    url: str
    files: tuple[FileEntry, ...]
    """What is fetched; all files are verified by these hashes."""
    cache: NodeCache


Weights = Path | BundledModel | RemoteModel
"""A path is that of a folder which is the same on every node. Plain picklable values."""


@overload
def local(weights: Weights) -> Path: ...
@overload
def local(weights: None) -> None: ...
@overload
def local(weights: Weights | None) -> Path | None: ...
def local(weights: Weights | None) -> Path | None:
    """Return the folder of the model on this node, which is fetched or unpacked if this node has not got it; None of None.

    Raises:
        ModelError: a bundled model's package is not installed here.
        StorageError: a file cannot be fetched, or is not the file that was named.
    """
    if isinstance(weights, RemoteModel):
        return weights.cache.fetch(Folder(weights.url), weights.files)
    if isinstance(weights, BundledModel):
        unpacked = Path(weights.home, weights.name)
        return unpacked if unpacked.is_dir() else unpack(weights.name, Path(weights.portable).expanduser())
    return weights


@overload
def described(weights: Weights) -> Path: ...
@overload
def described(weights: None) -> None: ...
@overload
def described(weights: Weights | None) -> Path | None: ...
def described(weights: Weights | None) -> Path | None:
    """Return a folder of this node with the configuration, tokenizer and chat template of a model; of a remote one without weights.

    Raises:
        ModelError, StorageError: as `local`.
    """
    if isinstance(weights, RemoteModel):
        return local(replace(weights, files=tuple(file for file in weights.files if not is_heavy(file.path))))
    return local(weights)


def is_heavy(name: str) -> bool:
    """Return whether a file of this name holds weights."""
    return name.endswith(HEAVY)


def portable(folder: str) -> str:
    """Return the path `folder` with `~` for the home of this user, if it is below it."""
    try:
        return str(Path("~", Path(folder).relative_to(Path.home())))
    except ValueError:
        return folder
