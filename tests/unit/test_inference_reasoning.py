"""Reasoning is separated from the answer, and a completion whose reasoning never closes has no answer."""

import pytest

from engine.contract.teachers import Thinks
from engine.inference.reasoning import parse_reasoning

USUAL, OPENED = Thinks(), Thinks(open="")


@pytest.mark.parametrize(
    ("text", "finish_reason", "tags", "thought"),
    [
        ("<think>\nhm\n</think>\n\n42", "stop", USUAL, ("hm", "42", "stop", "")),
        ("42", "stop", USUAL, ("", "42", "stop", "")),
        ("hm</think>42", "stop", OPENED, ("hm", "42", "stop", "")),
        ("hm</think>42", "stop", USUAL, ("hm", "42", "stop", "")),  # the template opened it after all
        ("<think>a</think>so<think>b</think>42", "stop", USUAL, ("a</think>so<think>b", "42", "stop", "")),
        ("<think></think>42", "length", USUAL, ("", "42", "length", "")),  # cut off in the answer: its ending says so
        ("<think>hm, that", "length", USUAL, ("hm, that", "", "length", "")),
        ("hm, that", "length", OPENED, ("hm, that", "", "length", "")),
        ("<think>hm", "stop", USUAL, ("hm", "", "error", "stopped while it was thinking")),
        ("", "too_long", OPENED, ("", "", "too_long", "")),
        (" <think>x</think> y ", "stop", None, ("", " <think>x</think> y ", "stop", "")),
    ],
)
def test_reasoning_is_separated_from_the_answer(text, finish_reason, tags, thought):
    assert parse_reasoning(text, finish_reason, tags) == thought
