"""Calls of a model in this process, with what they took, for who compares the process with its peers. Nothing is kept."""

from collections.abc import Callable
from typing import NamedTuple

LOADING = ""  # kind of the call that loads an engine


class ModelCall(NamedTuple):
    """A call that ended. What was found in a ledger is no call."""

    kind: str
    """What was asked of which model: only calls of one kind are comparable. LOADING: the engine was loaded."""
    seconds: float
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


_listeners: list[Callable[[ModelCall], None]] = []


def on_call(listener: Callable[[ModelCall], None]) -> None:
    """Let `listener`, which must return at once, hear of each call."""
    _listeners.append(listener)


def called(call: ModelCall) -> None:
    """Tell of a call."""
    for listener in _listeners:
        listener(call)
