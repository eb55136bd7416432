"""What a model thinks aloud, told from what it answers."""

from typing import NamedTuple

from engine.contract.teachers import Thinks


class ParsedReasoning(NamedTuple):
    """A completion in its two parts, and how it ended."""

    reasoning: str
    answer: str
    finish_reason: str  # one of rows.ENDINGS
    error: str = ""


def split(text: str, finish_reason: str, tags: Thinks | None) -> ParsedReasoning:
    """Return the reasoning in `text` and the answer behind it, both without outer blanks; without `tags` the text is the answer.

    A model whose thoughts never close has given no answer, however it ended: `length` where it was cut off, else `error`. Of
    several pairs of tags the last one closes: what stands before it is not yet the answer.
    """
    if tags is None:
        return ParsedReasoning("", text, finish_reason)
    before, closed, answer = text.rpartition(tags.close)
    if closed:
        return ParsedReasoning(before.strip().removeprefix(tags.open).strip(), answer.strip(), finish_reason)
    if tags.open in text:  # an empty `open` always is: the chat template has opened it
        thought = text.strip().removeprefix(tags.open).strip()
        return ParsedReasoning(
            thought, "", *(("error", "stopped while it was thinking") if finish_reason == "stop" else (finish_reason, ""))
        )
    return ParsedReasoning("", text.strip(), finish_reason)
