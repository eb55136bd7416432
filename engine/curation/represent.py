"""The parts of a teacher's answer (final, rationale, limits), and the training example made of them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from engine.checks.json_answer import read_json
from engine.contract.curation import Pick
from engine.contract.specialist import Specialist, TaskUnit
from engine.inference.engine import instruct
from engine.rows import EXAMPLE, Row, content_id
from engine.tools import conversation


class Represented(NamedTuple):
    """The parts of an answer."""

    final: str
    rationale: str  # "" if there is none
    limits: str  # what the answer says it cannot know, "" if nothing


def represent(answer: str, unit: TaskUnit) -> Represented:
    """Return the parts of `answer`.

    With a JSON schema, `final` is the JSON, compact and in the schema's order, `rationale` the text before it, and `limits` names
    the fields that are null. Without a schema or without JSON, the whole answer is `final`.
    """
    schema = unit.output.json_schema
    read = read_json(answer, after_text=True) if schema else None
    if schema is None or read is None:
        return Represented(answer.strip(), "", "")
    value = _ordered(read.value, schema)
    final = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    missing = [name.replace("_", " ") for name, field in value.items() if field is None] if isinstance(value, dict) else []
    return Represented(final, read.before, f"not stated: {', '.join(missing)}" if missing else "")


def target(parts: Represented, unit: TaskUnit) -> str:
    """Return the student's target: the final answer, preceded by the rationale if `unit` supervises the process."""
    return f"{parts.rationale}\n{parts.final}" if unit.supervise == "process" and parts.rationale else parts.final


def parts_of(answer: str) -> tuple[str, str]:
    """Return the text before the JSON that ends `answer`, and the rest; without JSON, "" and the whole answer."""
    read = read_json(answer, after_text=True)
    return ("", answer.strip()) if read is None else (read.before, read.text)


def examples(
    rows: pa.Table, specialist: Specialist, pick: Pick, *, seed: int, weights: Mapping[str, float] | None = None
) -> pa.Table:
    """Return EXAMPLE of the PICKED rows that are kept: one a row, or one for each trained turn of a trajectory.

    Hard examples occur `pick.hard_copies` times in the training split. `weights` are by value of the stratum `pick.balance`.
    """
    kept = [(row, specialist.unit(row["task_unit"])) for row in rows.to_pylist() if row["dropped_by"] == ""]
    result = []
    for row, unit in kept:
        example = _example(row, unit, pick, seed)
        if weights and pick.balance:
            example["weight"] *= weights[str(row[pick.balance])]
        for changes in _trained_turns(row, unit, example):
            result += _copies(example | changes, pick.hard_copies if _is_hard(row) and example["split"] == "train" else 1)
    return pa.Table.from_pylist(result, schema=EXAMPLE)


def _trained_turns(row: Row, unit: TaskUnit, example: Row) -> Iterator[Row]:
    """Yield the columns in which each example of a row differs from `example`: a turn follows the turns before it."""
    if unit.supervise != "tools":
        yield {}
        return
    turns = row["trajectory"]
    last = len(turns) - 1
    for number in conversation.training_turns(turns):
        yield {
            "example_id": example["example_id"] if number == last else f"{example['example_id']}-{number}",
            "messages": [*example["messages"], *map(conversation.message, turns[:number])],
            "target": turns[number]["content"],
        }


def _example(row: Row, unit: TaskUnit, pick: Pick, seed: int) -> Row:
    parts = represent(row["answer"], unit)
    return {
        "example_id": row["answer_id"],
        "messages": instruct(row["messages"], system=unit.instruction),
        "target": target(parts, unit),
        **parts._asdict(),
        **{name: row[name] for name in ("prompt_id", "task_unit", "pool", "layer", "difficulty", "cluster", "confidence_tier")},
        "kind": "answer",
        "weight": pick.hard_weight if _is_hard(row) else 1.0,
        "split": split(row["prompt_id"], share=pick.validation, seed=seed),
    }


def _is_hard(row: Row) -> bool:
    return row["difficulty"] == "hard" or row["pool"] == "hard"


def _copies(example: Row, count: int) -> list[Row]:
    again = [{**example, "example_id": f"{example['example_id']}-again{number}"} for number in range(1, count)]
    return [example, *again]


def split(prompt_id: str, *, share: float, seed: int) -> str:
    """Return `validation` for a `share` of all prompts, chosen by hash, independent of the other prompts; else `train`."""
    return "validation" if int(content_id("split", seed, prompt_id)[:13], 16) < share * 16**13 else "train"


def _ordered(value: Any, schema: dict[str, Any]) -> Any:
    """Return `value` with object keys in the order of the schema; unknown keys come last, sorted."""
    if isinstance(value, list):
        items = schema.get("items")
        return [_ordered(item, items if isinstance(items, dict) else {}) for item in value]
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties", {})
    names = [*(name for name in properties if name in value), *sorted(name for name in value if name not in properties)]
    return {name: _ordered(value[name], properties.get(name, {})) for name in names}
