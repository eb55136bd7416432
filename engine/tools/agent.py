"""A model that thinks, calls a tool and reads the result, until it answers (ReAct: Yao et al., 2023, section 2)."""

from collections.abc import Mapping, Sequence

from engine.contract.models import Sampling
from engine.inference.engine import Chat, Completion, Engine, Lost, Request
from engine.inference.scoring import Distribution, Target, Unscored
from engine.rows import Row, content_id
from engine.tools import conversation
from engine.tools.base import Result, Tool
from engine.tools.toolset import Toolset

# The wording of this text, of tool descriptions and of results is part of what models read: a change gives other answers.
INSTRUCTIONS = (
    'Write one JSON object: {"thought": ..., "call": {"tool": ..., "argument": ...}} to call a tool, '
    '{"answer": ...} once you know the answer. The tools are:'
)


class ToolAgent:
    """An engine whose completions may include tool calls, which are in `Completion.trajectory`."""

    def __init__(self, engine: Engine, toolset: Toolset) -> None:
        """Open the tools. Raises InputError if a file of a tool cannot be read."""
        self.engine, self.identity = engine, engine.identity
        self.tools = toolset.open()
        self.instructions = instructions(toolset, self.tools)

    @property
    def tokens_read(self) -> int:
        """See `engine.inference.engine.Engine`."""
        return self.engine.tokens_read

    def reset_prefix_cache(self) -> None:
        """See `engine.inference.engine.Engine`."""
        self.engine.reset_prefix_cache()

    def choice_probs(self, chats: Sequence[Chat], choices: Sequence[str]) -> Sequence[list[float] | Lost | None]:
        """See `engine.inference.engine.Engine`."""
        return self.engine.choice_probs(chats, choices)

    def mean_nll(self, chats: Sequence[Chat], answers: Sequence[str]) -> list[float | None]:
        """See `engine.inference.engine.Engine`."""
        return self.engine.mean_nll(chats, answers)

    def distributions(self, targets: Sequence[Target], k: int) -> Sequence[Distribution | Unscored | Lost]:
        """See `engine.inference.engine.Engine`."""
        return self.engine.distributions(targets, k)

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Return one completion for each request, in order. A request with `max_calls` 0 is passed to the engine unchanged.

        The next turns of all open conversations are one batch, to keep the engine full. `max_tokens` is the limit of one turn.
        A turn that is lost (`retryable`) loses its whole answer.
        """
        conversations = [Conversation(request, self.tools, self.instructions) for request in requests]
        while pending := [each for each in conversations if each.completion is None]:
            turns = self.engine.complete([each.next_request() for each in pending], sampling)
            for each, turn in zip(pending, turns, strict=True):
                each.receive(turn)
        return [each.completion for each in conversations if each.completion is not None]


class Conversation:
    """One conversation of a model with its tools; `completion` is set once it has ended."""

    def __init__(self, request: Request, tools: Mapping[str, Tool], instructions: str) -> None:
        self.request, self.tools = request, tools
        self.chat = _with_system_text(request.chat, instructions) if request.max_calls else request.chat
        self.turns: list[Row] = []
        self.completions: list[Completion] = []
        self.completion: Completion | None = None

    @property
    def may_call(self) -> bool:
        """Whether the model may call a tool in its next turn."""
        return len(self.completions) < self.request.max_calls

    def next_request(self) -> Request:
        """Return the request for the next turn, which has a seed of its own."""
        if not self.request.max_calls:
            return self.request
        return self.request._replace(
            chat=[*self.chat, *map(conversation.message, self.turns)],
            seed=int(content_id(self.request.seed, len(self.completions))[:8], 16),
            json_schema=conversation.schema(list(self.tools) if self.may_call else [], self.request.json_schema),
        )

    def receive(self, completion: Completion) -> None:
        """Process the model's turn: run its tool call, or end the conversation."""
        if not self.request.max_calls:
            self.completion = completion
            return
        action = conversation.read(completion.text) if completion.finish_reason == "stop" else None
        if isinstance(action, conversation.Call) and self.may_call:
            self._append(completion, ok=True, tool=action.tool)
            result = self._call(action)
            self.turns.append({"role": "tool", "content": result.text, "tool": action.tool, "ok": result.ok})
        elif isinstance(action, conversation.Answer):
            self._append(completion, ok=True)
            self.completion = self._total(completion._replace(text=action.text))
        else:
            self._append(completion, ok=False)
            self.completion = self._total(completion if completion.finish_reason != "stop" else self._unreadable(completion))

    def _call(self, call: conversation.Call) -> Result:
        if call.tool not in self.tools:
            return Result(f"there is no tool {call.tool!r:.40}, only {', '.join(self.tools)}", False)
        try:
            result = self.tools[call.tool](call.argument)
        except Exception as error:  # an argument written by a model must not end the process that holds the model
            result = Result(f"{type(error).__name__}: {error}", False)
        return Result(conversation.truncate(conversation.valid_unicode(result.text)), result.ok)

    def _append(self, completion: Completion, *, ok: bool, tool: str = "") -> None:
        self.completions.append(completion)
        self.turns.append({"role": "assistant", "content": completion.text, "tool": tool, "ok": ok})

    def _unreadable(self, completion: Completion) -> Completion:
        expected = "call or answer" if len(self.completions) <= self.request.max_calls else "answer"
        return completion._replace(finish_reason="error", error=f"turn {len(self.completions)} is no {expected}")

    def _total(self, last: Completion) -> Completion:
        """Return `last` with the tokens, seconds and log-probability of all turns."""
        logprobs = [turn.logprob for turn in self.completions if turn.logprob is not None]
        return last._replace(
            tokens_in=sum(turn.tokens_in for turn in self.completions),
            tokens_out=sum(turn.tokens_out for turn in self.completions),
            logprob=sum(logprobs) if len(logprobs) == len(self.completions) else None,
            seconds=sum(turn.seconds for turn in self.completions),
            trajectory=tuple(self.turns),
        )


def instructions(toolset: Toolset, tools: Mapping[str, Tool]) -> str:
    """Return the text about the tools that joins the system text; "" if the contract's own system text has it."""
    described = [f"- {name}: {tool.description}" for name, tool in tools.items()]
    return "\n".join([INSTRUCTIONS, *described]) if toolset.in_system_text else ""


def _with_system_text(chat: Chat, text: str) -> Chat:
    """Return `chat` with `text` at the end of its system turn."""
    if not text:
        return chat
    system, rest = (chat[0]["content"], chat[1:]) if chat and chat[0]["role"] == "system" else ("", chat)
    return [{"role": "system", "content": f"{system}\n\n{text}".strip()}, *rest]
