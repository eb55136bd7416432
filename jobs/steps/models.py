"""Where the models of a contract lie, for the jobs that ask or train them."""

from engine.inference.locate import find, find_tokenizer
from engine.inference.weights import Weights
from engine.runs.job import JobContext
from engine.storage.folder import Folder


def found(context: JobContext, path: str) -> Weights:
    """Return where the files of the model lie that the contract calls `path`.

    Raises:
        ModelError: there is no such folder, or it is not a Hugging Face model.
        StorageError: the store of a URL cannot be reached.
    """
    return find(path, root=context.root, home=context.models, cache=context.profile.weights_cache)


def named(folder: Folder) -> str:
    """Return how a contract calls the model in `folder`: by its path, or by its URL."""
    return folder.path if folder.is_local else folder.url


def tokenizer(context: JobContext, path: str) -> Weights:
    """Return where the tokenizer lies, of a model behind an endpoint, that the contract calls `path`.

    Raises:
        StorageError: the store of a URL cannot be reached.
    """
    return find_tokenizer(path, root=context.root, cache=context.profile.weights_cache)
