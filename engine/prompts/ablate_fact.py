"""Counter-examples: a prompt without one fact, where it can be verified that the fact is absent.

A field with `output.spans` can only be filled with a span of the prompt that the field's schema accepts. If no such span is left,
null is the only valid answer: the specialist must abstain, whatever any model says. This is counterfactual data augmentation
(Kaushik et al., 2020, "Learning the Difference That Makes a Difference"): a small edit that changes the label.
"""

import re
from typing import NamedTuple

from jsonschema import Draft202012Validator

from engine.contract.specialist import Output
from engine.inference.structured import candidate_spans
from engine.prompts.conversation import RowReject
from engine.rows import content_id

SENTENCE = re.compile(r"[^\n]+?(?:[.!?]+(?=\s+[^\sa-z0-9])|\n+|\Z)\s*")
CLAUSE = re.compile(r"[^\n]+?(?:[.!?,;:]+(?=\s)|\n+|\Z)\s*")
MAX_SPANS = 0.5  # a field that accepts a larger share of all spans is free text: no span identifies its value


class Fact(NamedTuple):
    """A fact to remove from a prompt."""

    field: str
    values: tuple[str, ...]  # every span of the prompt that could fill the field


def removable_facts(text: str, output: Output) -> list[Fact]:
    """Return the facts of `text` whose absence could be verified."""
    facts = []
    for field, max_words in output.spans.items():
        values = _values(text, output, field)
        if values and len(values) <= MAX_SPANS * len(candidate_spans(text, max_words)) and _validator(output, field).is_valid(None):
            facts.append(Fact(field, tuple(values)))
    return facts


def choose_fact(text: str, output: Output, *, seed: int) -> Fact:
    """Return the fact to remove from `text`.

    Raises:
        RowReject: it has no removable fact.
    """
    facts = removable_facts(text, output)
    if not facts:
        raise RowReject("synthesis_unproven", "it states no fact whose absence could be proven")
    return min(facts, key=lambda fact: content_id(seed, fact.field))


def remove_fact(text: str, fact: Fact, output: Output) -> str:
    """Return `text` without the sentences that hold the fact, or without the clauses if a sentence holds other facts too.

    Raises:
        RowReject: the rest still holds the fact, or has lost another one.
    """
    rejects = []
    for unit in (SENTENCE, CLAUSE):
        rest = _without(unit.findall(text), fact)
        try:
            verify_removed(text, rest, fact, output)
        except RowReject as reject:
            rejects.append(reject)
        else:
            return rest
    raise rejects[-1]


def verify_removed(before: str, after: str, fact: Fact, output: Output) -> None:
    """Check that `after` lacks the fact and has all other removable facts of `before`.

    Raises:
        RowReject: it does not.
    """
    left = _values(after, output, fact.field)
    if left:
        raise RowReject("synthesis_unproven", f"{fact.field} could still be {left[0]!r}")
    for other in removable_facts(before, output):
        if other.field != fact.field and {*other.values} - {*fact.values} != {*_values(after, output, other.field)}:
            raise RowReject("synthesis_unproven", f"without {fact.field} it says something else of {other.field}")


def _values(text: str, output: Output, field: str) -> list[str]:
    """Return the spans of `text` that the field accepts."""
    accepts = _validator(output, field).is_valid
    return [span for span in candidate_spans(text, output.spans[field]) if accepts(span)]


def _validator(output: Output, field: str) -> Draft202012Validator:
    assert output.json_schema is not None
    return Draft202012Validator(output.json_schema["properties"][field])


def _without(parts: list[str], fact: Fact) -> str:
    """Return the parts that do not hold the fact; a line that loses its last part keeps its line break."""
    rest = ""
    for part in parts:
        if not any(re.search(rf"(?<!\w){re.escape(value)}(?!\w)", part) for value in fact.values):
            rest += part
        elif part.endswith("\n") and not rest.endswith("\n"):
            rest = rest.rstrip() + "\n"
    return rest.strip()
