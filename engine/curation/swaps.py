"""Examples whose quoted values are replaced: the same mail with another order number, so that a student learns to copy.

Mention replacement (Dai and Adel, "An analysis of simple data augmentation for named entity recognition", COLING 2020, section 2),
for fields that are quoted from the prompt (`output.spans`): each mention of the value, in the prompt and in the target, becomes the
value of that field in another example, or other digits of the same count. No model is asked. Where another field of the target or a
turn of the assistant has the value, too, perhaps among other words, there is no variant.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from engine.checks import parse
from engine.checks.grounded import occurs
from engine.checks.grounded import values as values_in
from engine.contract.curation import Curation
from engine.contract.derived import Swaps
from engine.contract.specialist import Specialist
from engine.rows import EXAMPLE, Row, content_id

VALUE = pa.schema([("task_unit", pa.string()), ("field", pa.string()), ("value", pa.string())])
READ = pa.schema([EXAMPLE.field(name) for name in ("task_unit", "kind", "split", "messages", "final", "rationale")])
MOST_VALUES = 10_000  # of a field: the first by hash
Values = dict[tuple[str, str], list[str]]
"""Task unit and field -> its values in the training examples, sorted."""


def values_of(examples: pa.Table, specialist: Specialist) -> pa.Table:
    """Return VALUE: the distinct quoted values of the training examples, at most MOST_VALUES of a field. `examples` have READ."""
    found: dict[tuple[str, str], set[str]] = {}
    for row in filter(_is_plain, examples.to_pylist()):
        for field, value in _quoted(row, specialist).items():
            found.setdefault((row["task_unit"], field), set()).add(value)
    return _first(found)


def merged(values: Sequence[pa.Table]) -> pa.Table:
    """Return VALUE of all examples, from that of parts of them."""
    found: dict[tuple[str, str], set[str]] = {}
    for row in pa.concat_tables([VALUE.empty_table(), *values]).to_pylist():
        found.setdefault((row["task_unit"], row["field"]), set()).add(row["value"])
    return _first(found)


def _first(found: Mapping[tuple[str, str], set[str]]) -> pa.Table:
    rows = [
        {"task_unit": unit, "field": field, "value": value}
        for (unit, field), values in sorted(found.items())
        for value in sorted(sorted(values, key=lambda value: content_id("swap", value))[:MOST_VALUES])
    ]
    return pa.Table.from_pylist(rows, schema=VALUE)


def swapped(examples: pa.Table, values: pa.Table, specialist: Specialist, section: Curation) -> pa.Table:
    """Return EXAMPLE: up to `section.swaps.per_example` variants of each training example that quotes a value; `values`: VALUE."""
    assert section.swaps, "the caller asks for variants only if the contract does"
    swaps = section.swaps
    known: Values = {}
    for row in values.to_pylist():
        known.setdefault((row["task_unit"], row["field"]), []).append(row["value"])
    made = [
        variant
        for row in filter(_is_plain, examples.to_pylist())
        for number in range(1, swaps.per_example + 1)
        if (variant := _variant(row, number, _Draw(known, swaps, section.seed), specialist))
    ]
    return pa.Table.from_pylist(made, schema=EXAMPLE)


def _is_plain(row: Row) -> bool:
    """Return whether the row is a training example without a rationale, which may tell of a value in other words."""
    return row["kind"] == "answer" and row["split"] == "train" and not row["rationale"]


def _quoted(row: Row, specialist: Specialist) -> dict[str, str]:
    """Return the fields of the target whose value stands in the user's text exactly, as whole words."""
    form = parse(row["final"])
    if not isinstance(form, dict):
        return {}
    text = "\n".join(turn["content"] for turn in row["messages"] if turn["role"] == "user")
    fields = ((name, form.get(name)) for name in specialist.unit(row["task_unit"]).output.spans)
    return {name: value for name, value in fields if isinstance(value, str) and value and _mentions([value]).search(text)}


def _mentions(values: list[str]) -> re.Pattern[str]:
    longest_first = sorted(values, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")


class _Draw:
    """Draws the value that stands for another: the same for the same example, number and field."""

    def __init__(self, known: Values, section: Swaps, seed: int) -> None:
        self.known, self.section, self.seed = known, section, seed

    def value(self, row: Row, field: str, value: str, number: int) -> str | None:
        """Return another value of `field`; None if there is none, or if the contract does not name the field."""
        way = self.section.fields.get(field) if self.section.fields else "values"
        drawn = int(content_id("swap", self.seed, row["example_id"], number, field), 16)
        if way == "digits":
            return _other_digits(value, drawn)
        others = [each for each in self.known.get((row["task_unit"], field), []) if each != value]
        return others[drawn % len(others)] if way and others else None


def _other_digits(value: str, drawn: int) -> str | None:
    """Return `value` with other digits, no number beginning with 0; None if it has no digit, or if none other was drawn."""

    def other(number: re.Match[str]) -> str:
        nonlocal drawn
        digits = ""
        for place in range(len(number[0])):
            base, first = (9, 1) if not place and len(number[0]) > 1 else (10, 0)
            drawn, digit = divmod(drawn, base)
            digits += str(first + digit)
        return digits

    changed = re.sub(r"[0-9]+", other, value)
    return changed if changed != value else None


def _variant(row: Row, number: int, draw: _Draw, specialist: Specialist) -> Row | None:
    """Return the example with other values; None if no value has another, or if one is also in what is kept."""
    quoted = _quoted(row, specialist)
    drawn = ((value, draw.value(row, field, value, number)) for field, value in quoted.items())
    others = {value: other for value, other in drawn if other is not None}
    form = parse(row["final"])
    if not others or any(occurs(value, text) for text in _kept(row, form, others, quoted) for value in others):
        return None
    final = _replaced_fields(form, others, quoted)
    return row | {
        "example_id": f"{row['example_id']}-swap{number}",
        "messages": [_replaced_turn(turn, others) for turn in row["messages"]],
        "target": final,
        "final": final,
        "kind": "swap",
    }


def _kept(row: Row, form: Row, others: Mapping[str, str], quoted: Mapping[str, str]) -> Iterator[str]:
    """Yield the texts that a variant has as they are: other fields of the target, and turns of the assistant."""
    yield from (text for name, value in form.items() if name not in quoted or value not in others for text in values_in(value))
    yield from (turn["content"] for turn in row["messages"] if turn["role"] == "assistant")


def _replaced_fields(form: Row, others: Mapping[str, str], quoted: Mapping[str, str]) -> str:
    changed = {name: others.get(value, value) if name in quoted else value for name, value in form.items()}
    return json.dumps(changed, ensure_ascii=False, separators=(",", ":"))


def _replaced_turn(turn: Row, others: Mapping[str, str]) -> Row:
    """Return a turn of the user with all values replaced at once, so that no new value is replaced again; other turns stay."""
    if turn["role"] != "user":
        return turn
    return turn | {"content": _mentions(list(others)).sub(lambda found: others[found[0]], turn["content"])}
