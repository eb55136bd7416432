"""The seam between the student's answer and what the caller gets: answer, abstain, or hand the request on."""

from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple, Protocol

from engine.contract.specialist import TaskUnit
from engine.inference.engine import Chat

STUDENT = "student"
"""Name of the route that every request takes first."""


class Asked(NamedTuple):
    """A request for one task unit, after redaction."""

    unit: TaskUnit
    messages: Chat
    text: str
    """Turns of the user, joined by line breaks: what the evaluation calls the prompt's text."""
    outside: str = ""
    """Why the request is outside the niche; "" = it is inside, or nothing checks it."""


class Answer(NamedTuple):
    """The answer of the student, or of that to which the request was handed on."""

    text: str
    finish_reason: str
    """One of rows.FINISH_REASONS."""
    confidence: float | None
    """Probability of the whole answer, 0 to 1; None if the engine gives none."""
    tokens_in: int
    tokens_out: int
    seconds: float
    """Seconds of the engine, shared with the requests that it computed at the same time."""
    error: str = ""


class Decision(NamedTuple):
    """What becomes of a request."""

    action: Literal["answer", "abstain", "hand_on"]
    route: str = STUDENT
    """Name of the handler that gets it, if it is handed on."""
    reason: str = ""
    """Shown to the caller, such as `confidence 0.41 is below 0.80`."""


class Router(Protocol):
    """Decides on each request. Called in the server's event loop: it computes in microseconds and waits for nothing."""

    def screen(self, asked: Asked) -> Decision | None:
        """Return what becomes of a request that the student is not to see; None if it is asked."""
        ...

    def decide(self, asked: Asked, answer: Answer) -> Decision:
        """Return what becomes of a request that the student has answered."""
        ...


class AlwaysAnswer:
    """Gives every answer of the student to the caller."""

    def screen(self, asked: Asked) -> Decision | None:
        """Let the student answer."""
        return None

    def decide(self, asked: Asked, answer: Answer) -> Decision:
        """Answer."""
        return Decision("answer")


Handler = Callable[[Asked, float], Awaitable[Answer]]
"""Answers a request that was handed on, until a deadline (seconds of `time.monotonic`); any exception is a failure of the route,
which the caller sees as one: a failed fallback never becomes the student's answer."""
