"""Separates the reasoning of a model from its answer."""

from typing import NamedTuple

from engine.contract.teachers import Thinks


class ParsedReasoning(NamedTuple):
    """The two parts of a completion, and how it ended."""

    reasoning: str
    answer: str
    finish_reason: str  # one of rows.FINISH_REASONS
    error: str = ""


def parse_reasoning(text: str, finish_reason: str, tags: Thinks | None, apart: str = "") -> ParsedReasoning:
    """Return the reasoning and the answer in `text`, both stripped; without `tags` the whole text is the answer, as it is.

    Reasoning that a server has split off already is `apart`; then the whole text is the answer, too, and stripped.

    A completion whose reasoning never closes has no answer: its finish reason stays `length` if it was cut off, and becomes `error`
    if it stopped. With several pairs of tags the last closing tag counts: text between the pairs belongs to the reasoning.
    """
    if apart:
        return ParsedReasoning(apart, text.strip(), finish_reason)
    if tags is None:
        return ParsedReasoning("", text, finish_reason)
    before, closed, answer = text.rpartition(tags.close)
    if closed:
        return ParsedReasoning(before.strip().removeprefix(tags.open).strip(), answer.strip(), finish_reason)
    if tags.open in text:  # an empty `open` always is: the chat template wrote the opening tag
        reasoning = text.strip().removeprefix(tags.open).strip()
        if finish_reason == "stop":
            return ParsedReasoning(reasoning, "", "error", "stopped while it was thinking")
        return ParsedReasoning(reasoning, "", finish_reason)
    return ParsedReasoning("", text.strip(), finish_reason)
