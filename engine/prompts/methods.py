"""The chats that ask a model for a new prompt, one method each, and the validation of its replies.

Self-Instruct: Wang et al., 2023, section 2.2 (seeds are the examples; short replies are rejected; MinHash replaces ROUGE-L).
Evol-Instruct: Xu et al., 2023, "WizardLM", sections 3.2 and 3.3 (four operators in depth, one in breadth; an evolution that adds
nothing, or repeats words of its instruction, is rejected).
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.contract.synthesize import Evolve, Synthesis
from engine.dedup.words import words
from engine.inference.engine import Chat, instruct
from engine.prompts.ablate_fact import Fact
from engine.prompts.conversation import RowReject
from engine.rows import Row

KINDS = {
    "core": "an ordinary message",
    "failure_mode": "a message with which one easily goes wrong: what is needed is left out, hidden or contradicted",
    "long_tail": "a rare message: an unusual situation, form or way of writing",
}
OPERATORS = {
    "deepen": "Ask for more: what the message is about is gone into more deeply.",
    "add_constraints": "Add one more condition or requirement.",
    "concretise": "Put something more specific in the place of something general.",
    "more_steps": "Make it take one more step of thought to understand what is wanted.",
}
IN_BREADTH = "Write a new message of the same domain, about something rarer and as long as the given one. It is {kind}."
IN_DEPTH = "{operator} Add at most 20 words. The result is {kind}."
REWORD = "Say the same in other words. Keep every number, name and fact."
LEAVE_OUT = "Leave out {values}, and anything that says what it was. Keep all the rest."
ANOTHER = "Write another message."  # the same before each example: a small model goes on as it sees it done
SYSTEM = "You write messages as people send them. Whoever gets them must do this: {goal} Reply with one message and nothing else."

LABEL = re.compile(r"^\W*(?:the |a |here is (?:the|a) )?(?:rewritten|rephrased|new) (?:message|mail|version|prompt)\W*?:\s*", re.I)
ECHO = re.compile(r"(?:given|rewritten|rephrased) (?:message|mail|prompt)", re.I)
REFUSAL = re.compile(r"^(?:i'?m sorry|i am sorry|sorry)[,.]? (?:but )?(?:i|as)\b.*\b(?:cannot|can't|unable)|^as an ai\b", re.I)
FEWEST_WORDS = 3


class Ask(NamedTuple):
    """A request for one prompt."""

    number: int  # of its synthesis from 1, over all rounds
    synthesis: Synthesis
    layer: str
    seeds: Sequence[Row]  # rows of PROMPT; the first is the parent
    seed: int
    fact: Fact | None = None  # of a counter-example

    @property
    def parent(self) -> Row:
        """The row from which the prompt is written."""
        return self.seeds[0]


def chat(ask: Ask, goal: str) -> Chat:
    """Return the chat that asks the model for the prompt; `goal` is that of the specialist."""
    system = SYSTEM.format(goal=goal.rstrip(".") + ".")
    if ask.synthesis.method.type == "self_instruct":
        shown = [(ANOTHER, seed["text"]) for seed in reversed(ask.seeds)]  # the parent last
        return instruct([{"role": "user", "content": ANOTHER}], system=f"{system} It is {KINDS[ask.layer]}.", shots=shown)
    order = ORDERS[ask.synthesis.method.type](ask)
    shots = [(f"{order}\n\n{shot.input}", shot.output) for shot in ask.synthesis.shots]
    return instruct([{"role": "user", "content": f"{order}\n\n{ask.parent['text']}"}], system=system, shots=shots)


def operator(ask: Ask) -> str:
    """Return the operator of Evol-Instruct that `ask` applies."""
    assert isinstance(ask.synthesis.method, Evolve)
    return ask.synthesis.method.operators[ask.number % len(ask.synthesis.method.operators)]


def read(ask: Ask, reply: str) -> str:
    """Return the prompt in `reply`, without label and quotation marks.

    Raises:
        RowReject: the reply is too short, a refusal, an echo of the instruction, a copy of a seed, or has other numbers.
    """
    text = LABEL.sub("", reply.strip())
    text = text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] == '"' else text
    reply_words = words(text)
    if len(reply_words) < FEWEST_WORDS:
        raise RowReject("synthesis_empty", f"{len(reply_words)} words, expected at least {FEWEST_WORDS}")
    if REFUSAL.search(text):
        raise RowReject("synthesis_refused", "it says that it cannot")
    if echo := ECHO.search(text):
        raise RowReject("synthesis_echo", f"it says {echo[0]!r}")
    if any(reply_words == words(seed["text"]) for seed in ask.seeds):
        raise RowReject("synthesis_unchanged", "it says what a seed says that it was shown")
    if ask.synthesis.method.type == "paraphrase":
        _require_numbers(ask.parent["text"], text)
    return text


def _evolved(ask: Ask) -> str:
    name, kind = operator(ask), KINDS[ask.layer]
    return IN_BREADTH.format(kind=kind) if name == "broaden" else IN_DEPTH.format(operator=OPERATORS[name], kind=kind)


def _without_fact(ask: Ask) -> str:
    assert ask.fact is not None
    return LEAVE_OUT.format(values=" and ".join(repr(value) for value in ask.fact.values))


ORDERS: dict[str, Callable[[Ask], str]] = {
    "evolve": _evolved, "paraphrase": lambda ask: REWORD, "counter_example": _without_fact,
}  # fmt: skip


def _require_numbers(before: str, after: str) -> None:
    """Raise RowReject if a number of `before` is missing in `after`, or the other way round."""
    old, new = ({word for word in words(text) if any(map(str.isdigit, word))} for text in (before, after))
    if old != new:
        changes = [*(f"lost {word}" for word in sorted(old - new)), *(f"invented {word}" for word in sorted(new - old))]
        raise RowReject("synthesis_unfaithful", ", ".join(changes))
