"""Continuous batching with the vLLM engine of this process: requests join and leave its running batch.

vLLM's own asynchronous engine wants three processes, of which each imports torch; the engine of this process is stepped by hand.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.inference.batcher import Arrived, Done, Grown
from engine.inference.chat_template import Unanswered
from engine.inference.engine import Completion
from engine.inference.vllm_output import completion_of, too_long

if TYPE_CHECKING:
    from engine.inference.vllm_engine import VllmEngine


class _Running(NamedTuple):
    ticket: str
    name: str
    """By which vLLM gives it up."""
    prompt: list[int]


class VllmBatcher:
    """Steps a loaded vLLM engine. Requests are the same as those of `VllmEngine.complete`."""

    def __init__(self, engine: "VllmEngine", at_once: int) -> None:
        self.engine, self.at_once = engine, at_once
        self.running: dict[str, _Running] = {}  # id of its output -> request

    def add(self, arrived: Arrived) -> Completion | None:
        """Let a request join the running batch; return its completion at once if it cannot be read."""
        params = self.engine.params(arrived.request, arrived.sampling)
        [prompt] = self.engine.tokenize([arrived.request.chat])
        if isinstance(params, Unanswered) or isinstance(prompt, Unanswered):
            return completion_of(params if isinstance(params, Unanswered) else prompt, prompt, 0.0)
        if refused := too_long(prompt, self.engine.model.max_model_len):
            return completion_of(refused, prompt, 0.0)
        try:
            [name] = self.engine.llm.enqueue([{"prompt_token_ids": prompt}], params, use_tqdm=False)
        except self.engine.refusals as error:
            return completion_of(Unanswered("error", str(error)), prompt, 0.0)
        self.running[_output_id(name)] = _Running(arrived.ticket, name, prompt)
        if arrived.grows:  # `LLM` lets vLLM return nothing before the end
            state = self.engine.llm.llm_engine.output_processor.request_states[name]
            state.output_kind = self.engine.vllm.sampling_params.RequestOutputKind.CUMULATIVE
        return None

    def step(self) -> Sequence[Done | Grown]:
        """Compute one step of the running batch; return the requests that end with it, and the texts of those that are to grow."""
        if not self.running:
            return []
        outputs = self.engine.llm.llm_engine.step()
        return [told for output in outputs if (told := self._told(output)) is not None]

    def _told(self, output: Any) -> Done | Grown | None:
        """Return what an output of vLLM says; None if its request was given up."""
        if not output.finished:
            running = self.running.get(output.request_id)
            return Grown(running.ticket, output.outputs[0].text) if running else None
        ended = self.running.pop(output.request_id, None)
        return Done(ended.ticket, completion_of(output, ended.prompt, 0.0)) if ended else None

    def abort(self, ticket: str) -> None:
        """Take a request out of the running batch."""
        for key, each in [*self.running.items()]:
            if each.ticket == ticket:
                del self.running[key]
                self.engine.llm.llm_engine.abort_request([each.name], internal=True)


def _output_id(name: str) -> str:
    """Return the id with which vLLM returns the output of a request that it calls `name`: without the random end."""
    return name.rpartition("-")[0] or name
