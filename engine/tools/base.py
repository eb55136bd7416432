"""The interface of a tool."""

from typing import NamedTuple, Protocol


class Result(NamedTuple):
    """Result of a call."""

    text: str  # "" if nothing was found; the reason of a failure if not ok
    ok: bool


class Tool(Protocol):
    """A tool that a model calls with one string."""

    description: str
    """What it does and what its argument is, for the model."""

    def __call__(self, argument: str) -> Result:
        """Return the result. A failed call is a result too, with its reason; nothing is raised."""
        ...
