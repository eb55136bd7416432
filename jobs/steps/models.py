"""Where the models of a contract lie, for the jobs that ask or train them."""

from typing import TypeVar

from engine.contract.models import LlamaCppModel, Model, TeacherModel
from engine.inference.locate import find, find_tokenizer
from engine.inference.weights import Weights
from engine.readers.below import below
from engine.runs.job import JobContext
from engine.storage.folder import Folder

M = TypeVar("M", bound=Model | TeacherModel)


def found(context: JobContext, path: str) -> Weights:
    """Return where the files of the model lie that the contract calls `path`.

    Raises:
        ModelError: there is no such folder, or it is not a Hugging Face model.
        StorageError: the store of a URL cannot be reached.
    """
    return find(path, root=context.root, home=context.models, cache=context.profile.weights_cache)


def placed(model: M, root: str) -> M:
    """Return `model` with its folder of packages as it is from anywhere: relative paths of a contract start at `root`."""
    if isinstance(model, LlamaCppModel) and model.packages:
        return model.model_copy(update={"packages": below(root, model.packages)})
    return model


def named(folder: Folder) -> str:
    """Return how a contract calls the model in `folder`: by its path, or by its URL."""
    return folder.path if folder.is_local else folder.url


def tokenizer(context: JobContext, path: str) -> Weights:
    """Return where the tokenizer lies, of a model behind an endpoint, that the contract calls `path`.

    Raises:
        StorageError: the store of a URL cannot be reached.
    """
    return find_tokenizer(path, root=context.root, cache=context.profile.weights_cache)
