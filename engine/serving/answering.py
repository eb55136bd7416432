"""The deployment that answers, which may change while the server runs, and what runs beside it."""

from typing import TYPE_CHECKING, Protocol

from engine.rows import Row
from engine.serving.chat import Models, model_names
from engine.serving.router import Asked
from engine.serving.service import Reply, Service

if TYPE_CHECKING:
    from engine.serving.app import App


class Companion(Protocol):
    """Something that runs beside the answers for as long as the server does."""

    def start(self, app: "App") -> None:
        """Begin; called in the event loop."""
        ...

    async def stop(self) -> None:
        """End; called before the server drains."""
        ...

    def replied(self, asked: Asked, reply: Reply) -> None:
        """Learn of a reply; returns at once."""
        ...

    def numbers(self) -> dict[str, float]:
        """Return what /metrics shows, without `rayleigh_` before the names."""
        ...

    def about(self) -> Row:
        """Return what /readyz shows."""
        ...


class Answering:
    """A deployment that answers, and the requests that it has begun."""

    def __init__(self, service: Service) -> None:
        self.service, self.in_flight = service, 0
        units = model_names(service.deployment.manifest.contract, service.target.units)
        self.models = Models(units, service.target.systems, service.target.max_tokens)
