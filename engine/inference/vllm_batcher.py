"""Continuous batching with the vLLM engine of this process: requests join and leave its running batch.

vLLM's own asynchronous engine wants three processes, of which each imports torch; the engine of this process is stepped by hand. As
there, a thread may read the next requests (tokens, checks, grammar) while a step computes: `prepare`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.inference.batcher import Arrived, Done, Grown
from engine.inference.chat_template import Unanswered
from engine.inference.engine import Completion
from engine.inference.vllm_output import completion_of, too_long

if TYPE_CHECKING:
    from engine.inference.vllm_engine import VllmEngine


class _Prepared(NamedTuple):
    prompt: list[int] | Unanswered
    join: Callable[[], None] | Unanswered
    """Puts the request into the running batch; or why it cannot be answered."""


class VllmBatcher:
    """Steps a loaded vLLM engine. Requests are the same as those of `VllmEngine.complete`."""

    def __init__(self, engine: "VllmEngine", at_once: int) -> None:
        self.engine, self.at_once = engine, at_once
        self.prepared: dict[str, _Prepared] = {}  # by ticket, which is also the request's id in vLLM
        self.running: dict[str, list[int]] = {}  # ticket -> prompt

    def prepare(self, arrived: Arrived) -> None:
        """Read a request that `add` gets next; see `engine.inference.batcher.Prepares`."""
        self.prepared[arrived.ticket] = self._read(arrived)

    def add(self, arrived: Arrived) -> Completion | None:
        """Let a request join the running batch; return its completion at once if it cannot be read."""
        prompt, join = self.prepared.pop(arrived.ticket, None) or self._read(arrived)
        if isinstance(join, Unanswered) or isinstance(prompt, Unanswered):
            return completion_of(join, prompt, 0.0, self.engine.decode_each)
        join()
        self.running[arrived.ticket] = prompt
        return None

    def step(self) -> Sequence[Done | Grown]:
        """Compute one step of the running batch; return the requests that end with it, and the texts of those that are to grow."""
        if not self.running:
            return []
        outputs = self.engine.llm.llm_engine.step()
        return [told for output in outputs if (told := self._told(output)) is not None]

    def _told(self, output: Any) -> Done | Grown | None:
        """Return what an output of vLLM says; None if its request was given up."""
        ticket = output.request_id
        if ticket not in self.running:
            return None
        if not output.finished:
            return Grown(ticket, output.outputs[0].text)
        return Done(ticket, completion_of(output, self.running.pop(ticket), 0.0, self.engine.decode_each))

    def abort(self, ticket: str) -> None:
        """Take a request out of the running batch."""
        if self.running.pop(ticket, None) is not None:
            self.engine.llm.llm_engine.abort_request([ticket])

    def _read(self, arrived: Arrived) -> _Prepared:
        engine = self.engine
        params = engine.params(arrived.request, arrived.sampling)
        [prompt] = engine.tokenize([arrived.request.chat])
        refused = next((each for each in (params, prompt) if isinstance(each, Unanswered)), None)
        refused = refused or too_long(prompt, engine.model.max_model_len)
        if refused:
            return _Prepared(prompt, refused)
        kinds = engine.vllm.sampling_params.RequestOutputKind
        params.output_kind = kinds.CUMULATIVE if arrived.grows else kinds.FINAL_ONLY
        try:
            return _Prepared(prompt, _read_by_vllm(engine.llm, arrived.ticket, prompt, params))
        except engine.refusals as error:
            return _Prepared(prompt, Unanswered("error", str(error)))


def _read_by_vllm(llm: Any, name: str, prompt: Any, params: Any) -> Callable[[], None]:
    """Return what lets a request join.

    `LLM.enqueue` does the same in one call. This is how vLLM's server does it: the request is checked, its grammar compiled and its
    prompt's blocks hashed in a thread beside the one that computes (`EngineCore.preprocess_add_request`).
    """
    engine = llm.llm_engine
    [rendered] = llm.renderer.render_cmpl([{"prompt_token_ids": prompt}])
    request = engine.input_processor.process_inputs(name, rendered, params, supported_tasks=engine.get_supported_tasks())
    engine.input_processor.assign_request_id(request)
    core = getattr(engine.engine_core, "engine_core", None)  # None: in a process of its own, as on GPUs, which reads it there
    if core:
        send = partial(core.add_request, *core.preprocess_add_request(request))
    else:
        send = partial(engine.engine_core.add_request, request)

    def join() -> None:
        engine.output_processor.add_request(request, None, None, 0)
        send()

    return join
