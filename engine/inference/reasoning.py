"""What a model thinks aloud, told from what it answers."""

from typing import NamedTuple

from engine.contract.teachers import Thinks


class Thought(NamedTuple):
    """A completion in its two parts, and how it ended."""

    reasoning: str
    answer: str
    ending: str  # one of rows.ENDINGS
    error: str = ""


def split(text: str, ending: str, tags: Thinks | None) -> Thought:
    """Return the reasoning in `text` and the answer behind it, both without outer blanks; without `tags` the text is the answer.

    A model whose thoughts never close has given no answer, however it ended: `length` where it was cut off, else `error`. Of
    several pairs of tags the last one closes: what stands before it is not yet the answer.
    """
    if tags is None:
        return Thought("", text, ending)
    before, closed, answer = text.rpartition(tags.close)
    if closed:
        return Thought(before.strip().removeprefix(tags.open).strip(), answer.strip(), ending)
    if tags.open in text:  # an empty `open` always is: the chat template has opened it
        thought = text.strip().removeprefix(tags.open).strip()
        return Thought(thought, "", *(("error", "stopped while it was thinking") if ending == "stop" else (ending, "")))
    return Thought("", text.strip(), ending)
