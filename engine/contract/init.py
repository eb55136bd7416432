"""A student's initial weights."""

from pydantic import Field

from engine.contract.base import Section


class Prune(Section):
    """Initialise a student from some layers of a larger model."""

    source: str
    """Folder or packaged name of the model that is pruned."""
    layers: tuple[int, ...] = Field(min_length=1)
    """Indices of the decoder layers that are kept, in order. The first and the last matter most."""


class Init(Section):
    """The source of a student's initial weights."""

    prune: Prune
