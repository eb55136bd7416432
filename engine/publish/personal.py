"""A last look for personal data in what leaves a run, by the recognizers that redact prompts."""

from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

from engine.contract.prompts import Entity
from engine.prompts.redact import redact_text
from engine.rows import Row

EVERY: tuple[Entity, ...] = get_args(Entity)
TEXTS = ("target", "final", "rationale", "limits", "answer", "reference", "text")
TURNS = ("messages", "prompt", "chosen", "rejected")


class Checked(NamedTuple):
    """A row without personal data of some kinds."""

    row: Row
    replaced: frozenset[str]
    """Kinds that were there and are replaced."""
    suspected: frozenset[str]
    """Other kinds that were found; they stay."""


def checked(row: Row, kinds: Sequence[Entity]) -> Checked:
    """Return `row` with <EMAIL>, <PHONE> ... in place of personal data of `kinds` in all its texts and turns."""
    replaced: set[str] = set()
    others: list[Entity] = [kind for kind in EVERY if kind not in kinds]
    suspected: set[str] = set()

    def clean(text: Any) -> Any:
        if not isinstance(text, str) or not text:
            return text
        result = redact_text(text, kinds, replaced)
        redact_text(result, others, suspected)
        return result

    texts = {name: clean(row[name]) for name in TEXTS if name in row}
    turns = {name: [{**turn, "content": clean(turn["content"])} for turn in row[name] or ()] for name in TURNS if name in row}
    return Checked({**row, **texts, **turns}, frozenset(replaced), frozenset(suspected))
