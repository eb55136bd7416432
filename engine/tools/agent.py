"""A model that acts: it thinks, calls a tool, reads the result, until it answers (ReAct: Yao et al., 2023, section 2)."""

from collections.abc import Mapping, Sequence

from engine.contract.models import Sampling
from engine.inference.engine import Chat, Completion, Engine, Request
from engine.rows import content_id
from engine.tools import conversation
from engine.tools.base import Result, Tool
from engine.tools.toolset import Toolset

MANNER = (
    'Write one JSON object: {"thought": ..., "call": {"tool": ..., "argument": ...}} to call a tool, '
    '{"answer": ...} once you know the answer. The tools are:'
)


class ToolAgent:
    """An engine whose completions may have called tools on the way; those calls are in `Completion.trajectory`."""

    def __init__(self, engine: Engine, kit: Toolset) -> None:
        """Raises InputError if a file of a tool cannot be read."""
        self.engine, self.identity = engine, engine.identity
        self.tools = kit.open()
        described = [f"- {name}: {tool.description}" for name, tool in self.tools.items()]
        self.briefing = "\n".join([MANNER, *described]) if kit.is_told else ""

    def reset_prefix_cache(self) -> None:
        """See `engine.inference.engine.Engine`."""
        self.engine.reset_prefix_cache()

    def choice_probs(self, chats: Sequence[Chat], choices: Sequence[str]) -> list[list[float] | None]:
        """See `engine.inference.engine.Engine`."""
        return self.engine.choice_probs(chats, choices)

    def mean_nll(self, chats: Sequence[Chat], answers: Sequence[str]) -> list[float | None]:
        """See `engine.inference.engine.Engine`."""
        return self.engine.mean_nll(chats, answers)

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer each request, in order; one that may make no calls is answered as it stands.

        All conversations that are still open are asked together, turn by turn, so that the engine stays full. `max_tokens` is for
        one turn. A lost turn loses its whole answer.
        """
        talks = [Conversation(request, self.tools, self.briefing) for request in requests]
        while still := [talk for talk in talks if talk.end is None]:
            for talk, said in zip(still, self.engine.complete([talk.ask() for talk in still], sampling), strict=True):
                talk.hear(said)
        return [talk.end for talk in talks if talk.end is not None]


class Conversation:
    """One conversation."""

    def __init__(self, request: Request, tools: Mapping[str, Tool], briefing: str) -> None:
        self.request, self.tools = request, tools
        self.chat = _briefed(request.chat, briefing) if request.max_calls else request.chat
        self.turns: list[conversation.Turn] = []
        self.heard: list[Completion] = []
        self.end: Completion | None = None

    @property
    def may_call(self) -> bool:
        """Whether a further call is allowed."""
        return len(self.heard) < self.request.max_calls

    def ask(self) -> Request:
        """Return the request for the next turn; its seed is its own."""
        if not self.request.max_calls:
            return self.request
        return self.request._replace(
            chat=[*self.chat, *map(conversation.message, self.turns)],
            seed=int(content_id(self.request.seed, len(self.heard))[:8], 16),
            json_schema=conversation.schema(list(self.tools) if self.may_call else [], self.request.json_schema),
        )

    def hear(self, said: Completion) -> None:
        """Take the model's turn: call what it calls, or end as it ends."""
        if not self.request.max_calls:
            self.end = said
            return
        step = conversation.read(said.text) if said.finish_reason == "stop" else None
        if isinstance(step, conversation.Call) and self.may_call:
            self._note(said, ok=True, tool=step.tool)
            result = self._call(step)
            self.turns.append({"role": "tool", "content": result.text, "tool": step.tool, "ok": result.ok})
        elif isinstance(step, conversation.Answer):
            self._note(said, ok=True)
            self.end = self._sum(said._replace(text=step.text))
        else:
            self._note(said, ok=False)
            astray = f"turn {len(self.heard)} is no {'call or answer' if len(self.heard) <= self.request.max_calls else 'answer'}"
            self.end = self._sum(said if said.finish_reason != "stop" else said._replace(finish_reason="error", error=astray))

    def _call(self, step: conversation.Call) -> Result:
        if step.tool not in self.tools:
            return Result(f"there is no tool {step.tool!r:.40}, only {', '.join(self.tools)}", False)
        try:
            result = self.tools[step.tool](step.argument)
        except Exception as error:  # what a model wrote must not end the process that holds the model
            result = Result(f"{type(error).__name__}: {error}", False)
        return Result(conversation.clip(conversation.sound(result.text)), result.ok)

    def _note(self, said: Completion, *, ok: bool, tool: str = "") -> None:
        self.heard.append(said)
        self.turns.append({"role": "assistant", "content": said.text, "tool": tool, "ok": ok})

    def _sum(self, last: Completion) -> Completion:
        """`last` with what all turns cost."""
        logprobs = [said.logprob for said in self.heard if said.logprob is not None]
        return last._replace(
            tokens_in=sum(said.tokens_in for said in self.heard),
            tokens_out=sum(said.tokens_out for said in self.heard),
            logprob=sum(logprobs) if len(logprobs) == len(self.heard) else None,
            seconds=sum(said.seconds for said in self.heard),
            trajectory=tuple(self.turns),
        )


def _briefed(chat: Chat, briefing: str) -> Chat:
    """`chat` with `briefing` at the end of its system text."""
    if not briefing:
        return chat
    system, rest = (chat[0]["content"], chat[1:]) if chat and chat[0]["role"] == "system" else ("", chat)
    return [{"role": "system", "content": f"{system}\n\n{briefing}".strip()}, *rest]
