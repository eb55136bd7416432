"""The check of the niche as an engine, so that a worker asks it as it asks a model: with a queue, deadlines and faults.

It runs in a process of its own: an encoder may not share one with vLLM.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from engine.contract.models import Sampling
from engine.contract.serving import NicheCheck
from engine.errors import ModelError
from engine.inference.engine import Completion, Request
from engine.inference.engine_process import EngineProcess
from engine.inference.sentence_encoder import SentenceEncoder
from engine.inference.weights import Weights
from engine.serving.niche import PROBE, Niche, NicheModel
from engine.serving.worker import Load, Worker

AT_ONCE = 8  # requests that one call checks
SAME = 0.999  # least cosine of two vectors of one text by one encoder


@dataclass(frozen=True, eq=False)
class Checked:
    """A niche, and what is needed to check requests; picklable."""

    section: NicheCheck
    languages: tuple[str, ...]
    model: NicheModel
    encoder: Weights


class NicheEngine:
    """Completes a request with the reason why it is outside the niche; "" = it is inside."""

    def __init__(self, niche: Niche) -> None:
        self.niche = niche

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Return one completion for each request, whose chat is one turn."""
        reasons = (self.niche.check(request.chat[0]["content"]).reason for request in requests)
        return [Completion(reason, "stop", 0, 1, None, 0.0) for reason in reasons]


def load(checked: Checked) -> NicheEngine:
    """Return the engine, with its encoder loaded.

    Raises:
        ModelError: the encoder cannot be loaded, or gives other vectors than when the niche was measured.
    """
    encoder = SentenceEncoder(checked.encoder)
    probe = encoder([PROBE])[0]
    if probe.shape != checked.model.probe.shape or float(probe @ checked.model.probe) < SAME:
        raise ModelError(
            f"{checked.encoder}: gives other vectors than the encoder that the niche was measured with. "
            "Use that one, or certify again: rayleigh cascade RUN"
        )
    return NicheEngine(Niche(checked.section, checked.languages, checked.model, encoder))


def asked_of(text: str) -> Request:
    """Return the request that checks `text`."""
    return Request([{"role": "user", "content": text}], 0, 0.0)


def worker(checked: Checked, queue: int) -> Worker:
    """Return the worker of a niche, not started; at most `queue` requests wait."""
    engine = partial(EngineProcess, partial(load, checked), AT_ONCE)
    return Worker(Load(engine, Sampling(), AT_ONCE, queue, [asked_of("Hello.")]))
