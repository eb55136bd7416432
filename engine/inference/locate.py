"""Finds the model that a contract names: where its files lie, or its folder on this node."""

from pathlib import Path

from engine.contract.profile import WeightsCache
from engine.errors import ModelError
from engine.inference.bundled import BUNDLED, packaged_weights
from engine.inference.weights import BundledModel, RemoteModel, Weights, described, is_heavy, local, portable
from engine.readers.below import below
from engine.retry import cannot_open
from engine.storage.folder import Folder
from engine.storage.node_cache import GIB, NodeCache
from engine.storage.sums import file_entries

DEFAULT = WeightsCache()


def find(path: str, *, root: str, home: str, cache: WeightsCache = DEFAULT) -> Weights:
    """Return where every node finds the model that a contract calls `path`.

    A bundled model is unpacked below `home`, one behind a URL fetched into `cache`; any other path is a folder, relative to `root`
    or absolute. No weights are fetched here; those behind a URL without SHA256SUMS are read once, for their hashes.

    Raises:
        ModelError: there is no such folder, or it is not a Hugging Face model.
        StorageError: the store of a URL cannot be reached.
    """
    if path in BUNDLED:
        return BundledModel(path, home, portable(home))
    place = below(root, path)
    return _remote(place, cache) if "://" in place else _folder(path, root)


def locate(path: str, *, root: str, home: str, cache: WeightsCache = DEFAULT) -> Path:
    """Return the folder on this node of the model that a contract calls `path`; it is unpacked or fetched if need be.

    Raises:
        ModelError: there is no such folder, or it is not a Hugging Face model.
        StorageError: it cannot be fetched.
    """
    return local(find(path, root=root, home=home, cache=cache))


def find_tokenizer(path: str, *, root: str, cache: WeightsCache = DEFAULT) -> Weights:
    """Return where every node finds the tokenizer, of a model that lies elsewhere, that a contract calls `path`.

    Raises:
        ModelError: there is no file behind the URL.
        StorageError: the store of a URL cannot be reached.
    """
    place = below(root, path)
    if "://" not in place:
        return Path(place)
    found = _at(place, cache, heavy=False)
    if not found.files:
        raise ModelError(f"tokenizer {path!r}: there is no file. Upload the tokenizer's files, or correct the URL.")
    return found


def peek(path: str, *, root: str, home: str, cache: WeightsCache = DEFAULT) -> Path:
    """Return the folder of the configuration and the tokenizer of a model; it may not be there. No weights are fetched, and nothing
    is unpacked.

    Raises:
        ModelError, StorageError: as `locate`, of a model behind a URL.
    """
    if path in BUNDLED:
        return Path(home, path)
    place = below(root, path)
    return described(_remote(place, cache, heavy=False)) if "://" in place else Path(place)


def check(path: str, *, root: str, home: str, cache: WeightsCache = DEFAULT) -> Path | None:
    """Check that `locate` would find the model, without unpacking it or fetching weights. Return a folder with its configuration,
    tokenizer and chat template; None of a bundled model that is not unpacked.

    Raises:
        ModelError, StorageError: as `locate`.
    """
    if path not in BUNDLED:
        return peek(path, root=root, home=home, cache=cache) if "://" in below(root, path) else _folder(path, root)
    unpacked = Path(home, path)
    if unpacked.is_dir():
        return unpacked
    packaged_weights(path)
    return None


def _remote(url: str, cache: WeightsCache, *, heavy: bool = True) -> RemoteModel:
    model = _at(url, cache, heavy=heavy)
    names = [file.path for file in model.files]
    if "config.json" not in names:
        found = ", ".join(names) or "no file"
        raise ModelError(
            f"model {url!r}: found {found}, expected the files of a Hugging Face folder with config.json. Upload them there, or "
            "correct the URL; a SHA256SUMS beside them must name them all."
        )
    return model


def _at(url: str, cache: WeightsCache, *, heavy: bool) -> RemoteModel:
    try:
        source = Folder(url)
    except (ValueError, ImportError) as error:
        raise ModelError(f"model {url!r}: cannot be opened: {cannot_open(error)}.") from None
    files = file_entries(source, lambda name: heavy or not is_heavy(name), cache.folder)
    return RemoteModel(source.url, files, NodeCache(cache.folder, None if cache.gib is None else int(cache.gib * GIB)))


def _folder(path: str, root: str) -> Path:
    try:
        folder = Path(root, path).resolve()
        is_there = folder.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # a name that is too long, a symbolic link to itself, a byte of 0
        raise ModelError(f"model {path!r:.200}: is no path: {error}. Give the path or URL of a Hugging Face folder.") from None
    if not is_there:
        raise ModelError(
            f"model {path!r}: there is no folder {folder}. Give the path or URL of a Hugging Face folder, or one of "
            f"{sorted(BUNDLED)}."
        )
    if not (folder / "config.json").is_file():
        raise ModelError(f"model {path!r}: {folder} has no config.json, so it is no Hugging Face folder.")
    return folder
