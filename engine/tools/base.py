"""What a tool is."""

from pathlib import Path
from typing import NamedTuple, Protocol


class Result(NamedTuple):
    """What a call gave."""

    text: str  # "" if nothing was found; why it failed, if not ok
    ok: bool


class Tool(Protocol):
    """Something that a model calls with one text."""

    description: str
    """What it does and what it wants, for the model."""

    def __call__(self, argument: str) -> Result:
        """Return the result. A call that fails is a result too, with its reason; it raises nothing."""
        ...


def place(path: str, root: str) -> str:
    """Return where the contract's `path` is: relative ones start at `root`."""
    return path if "://" in path else str(Path(root, path))
