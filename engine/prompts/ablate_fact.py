"""Counter-examples: a prompt that lacks a fact, with the proof that it does.

A field that quotes its prompt (`output.spans`) can be filled by no other words than spans of the prompt that its schema accepts.
Where none is left, null is the only answer that fits: the specialist must abstain, and no model need be believed. The idea is that
of counterfactual data (Kaushik et al., 2020, "Learning the Difference That Makes a Difference"): a small edit that turns the label.
"""

import re
from typing import NamedTuple

from jsonschema import Draft202012Validator

from engine.contract.specialist import Output
from engine.inference.structured import spans
from engine.prompts.sources import RowReject
from engine.rows import content_id

SENTENCE = re.compile(r"[^\n]+?(?:[.!?]+(?=\s+[^\sa-z0-9])|\n+|\Z)\s*")
CLAUSE = re.compile(r"[^\n]+?(?:[.!?,;:]+(?=\s)|\n+|\Z)\s*")
FREE = 0.5  # of all spans: a field that accepts more of them is free text, and nothing tells what it is about


class Gap(NamedTuple):
    """A fact that is to go."""

    field: str
    values: tuple[str, ...]  # every span of the prompt that could fill the field


def gaps(text: str, output: Output) -> list[Gap]:
    """Return the facts of `text` of which it could be proven that they are gone."""
    found = []
    for field, words in output.spans.items():
        values = _values(text, output, field)
        if values and len(values) <= FREE * len(spans(text, words)) and _validator(output, field).is_valid(None):
            found.append(Gap(field, tuple(values)))
    return found


def choose(text: str, output: Output, *, seed: int) -> Gap:
    """Return the fact that `text` shall lose.

    Raises:
        Fault: nothing can be taken from it.
    """
    found = gaps(text, output)
    if not found:
        raise RowReject("synthesis_unproven", "it states no fact whose absence could be proven")
    return min(found, key=lambda gap: content_id(seed, gap.field))


def cut(text: str, gap: Gap, output: Output) -> str:
    """Return `text` without the sentences that could hold the fact; without the clauses, where a sentence says more than that.

    Raises:
        Fault: what is left still holds it, or has lost another fact.
    """
    faults = []
    for pieces in (SENTENCE, CLAUSE):
        rest = _without(pieces.findall(text), gap)
        try:
            prove(text, rest, gap, output)
        except RowReject as fault:
            faults.append(fault)
        else:
            return rest
    raise faults[-1]


def prove(before: str, after: str, gap: Gap, output: Output) -> None:
    """Show that `after` lacks the fact, and has all other facts of `before` that can be told.

    Raises:
        Fault: it cannot be shown.
    """
    left = _values(after, output, gap.field)
    if left:
        raise RowReject("synthesis_unproven", f"{gap.field} could still be {left[0]!r}")
    for other in gaps(before, output):
        if other.field != gap.field and {*other.values} - {*gap.values} != {*_values(after, output, other.field)}:
            raise RowReject("synthesis_unproven", f"without {gap.field} it says something else of {other.field}")


def _values(text: str, output: Output, field: str) -> list[str]:
    """Return the spans of `text` that could fill the field."""
    accepts = _validator(output, field).is_valid
    return [span for span in spans(text, output.spans[field]) if accepts(span)]


def _validator(output: Output, field: str) -> Draft202012Validator:
    assert output.json_schema is not None
    return Draft202012Validator(output.json_schema["properties"][field])


def _without(pieces: list[str], gap: Gap) -> str:
    """Return the pieces that do not hold the fact; a line that loses its end still ends."""
    rest = ""
    for piece in pieces:
        if not any(re.search(rf"(?<!\w){re.escape(value)}(?!\w)", piece) for value in gap.values):
            rest += piece
        elif piece.endswith("\n") and not rest.endswith("\n"):
            rest = rest.rstrip() + "\n"
    return rest.strip()
