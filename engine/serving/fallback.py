"""What answers below the threshold: a teacher, asked as the evaluation asked it, behind an endpoint or on this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast

from engine.contract.models import EndpointModel, Model
from engine.contract.profile import Pool
from engine.contract.specialist import TaskUnit
from engine.evaluation.evaluator import EvalTarget, greedy, within_positions
from engine.evaluation.size import model_size
from engine.inference.batcher import Answers
from engine.inference.endpoint import EndpointEngine
from engine.inference.engine import build_model
from engine.serving.refusals import Expired
from engine.serving.router import Answer, Asked
from engine.serving.service import answer_in, request_of
from engine.serving.worker import Worker

Final = Callable[[str, TaskUnit], str]


class Fallback(NamedTuple):
    """The teacher of a manifest, and what it gets of the machine; picklable."""

    target: EvalTarget
    pool: Pool
    """Its `max_num_seqs` bounds the requests in flight to an endpoint, too."""
    folder: str | None = None
    """Its weights on this machine; None behind an endpoint."""

    @property
    def is_remote(self) -> bool:
        """Whether it is behind an endpoint."""
        return isinstance(self.target.model, EndpointModel)


class EndpointHandler:
    """Asks a teacher behind an endpoint. It is used in one event loop."""

    def __init__(self, fallback: Fallback, final: Final) -> None:
        """Raises ModelError: the environment variable of its key is not set."""
        self.target, self.final = fallback.target, final
        self.engine = EndpointEngine(cast(EndpointModel, fallback.target.model), fallback.pool, None)
        self.sampling = greedy(fallback.target.max_tokens)
        self.client = self.engine.connect()

    async def __call__(self, asked: Asked, deadline: float) -> Answer:
        """Return the teacher's answer; the caller cancels at the deadline, and the request to the endpoint with it."""
        completion = await self.engine.ask(self.client, request_of(self.target, asked), self.sampling)
        return answer_in(self.target, self.target.units[asked.unit.name], completion, self.final)

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()


class LocalHandler:
    """Asks a teacher whose engine this server has loaded."""

    def __init__(self, fallback: Fallback, final: Final, worker: Worker) -> None:
        self.target, self.final, self.worker = fallback.target, final, worker

    async def __call__(self, asked: Asked, deadline: float) -> Answer:
        """Return the teacher's answer.

        Raises:
            TimeoutError: there is none by the deadline.
            Busy, Unavailable, EngineFault: it cannot answer.
        """
        try:
            computed = await self.worker.ask(request_of(self.target, asked), deadline=deadline)
        except Expired:
            raise TimeoutError from None
        return answer_in(self.target, self.target.units[asked.unit.name], computed.completion, self.final)


def load_local(fallback: Fallback) -> Answers:
    """Return the engine of a teacher that is no endpoint.

    Raises:
        ModelError: it cannot be loaded.
    """
    model = cast(Model, fallback.target.model)
    if fallback.folder is None:
        return build_model(model, fallback.pool, folder=None)
    folder = Path(fallback.folder)
    return build_model(within_positions(model, model_size(folder)), fallback.pool, folder=folder)
