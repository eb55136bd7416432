"""What failed answers teach: what does not hold, the right answer instead, what the input does not say, what to ask.

By rule, or rewritten by a model (see `rewriter`): a fault is what a check found, and a target is built only of what is known: the
accepted answer to the same prompt, the fault itself, or the answer without the values that do not stand in the input. Learning to
withhold what the input does not support: Zhang et al., "R-Tuning: instructing large language models to say 'I don't know'" (2024);
learning from errors beside their correction: An et al., "Learning from mistakes makes LLM better reasoner" (2023).
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.checks import parse
from engine.checks.grounded import occurs, values
from engine.contract.curation import Curation
from engine.contract.derived import AskMaterial, ContrastMaterial, CorrectionMaterial, RefusalMaterial
from engine.contract.specialist import Specialist, TaskUnit
from engine.curation.dispositions import Asked, Row, asked
from engine.curation.represent import represent, split, target
from engine.inference.engine import instruct
from engine.rows import EXAMPLE, content_id, grow

FAULTS = {
    "not_json": "it is no JSON",
    "off_schema": "it does not fit the form",
    "ungrounded": "the input does not say {detail}",
    "off_choice": "{detail} is none of the choices",
    "no_field": "a field is missing",
    "completed": "it is incomplete",
    "person_wrong": "it is wrong",
    "person_corrected": "it is wrong",
}
"""Reason -> what is wrong, in words; of another tag its own words and the check's detail."""

SHOWN = ("text", "answer", "reference", "scenario", "language")
UNSOLVED = grow(EXAMPLE, *((name, pa.string()) for name in (*SHOWN, "fault")))  # without its target, and with what checks look at
Lesson = dict[str, Any]


def boundary(rows: pa.Table, specialist: Specialist, section: Curation) -> pa.Table:
    """fates.COLUMNS, every prompt whole, in; EXAMPLE by rule out, of each kind at most one failed answer a prompt."""
    found = []
    for prompt, unit, failed in _failed(rows, specialist, section):
        for kind in section.boundary:
            if kind.type == "rewrite":
                continue
            made = next((one for row, fault in failed if (one := list(MAKERS[kind.type](kind, prompt, row, unit, fault)))), [])
            found += [_example(source, lesson, unit, section, kind.type) for source, lesson in made]
    return pa.Table.from_pylist(found, schema=EXAMPLE)


def unsolved(rows: pa.Table, specialist: Specialist, section: Curation) -> pa.Table:
    """fates.COLUMNS, every prompt whole, in; UNSOLVED out: of each prompt without an accepted answer the first failed one."""
    found = []
    for kind in (kind for kind in section.boundary if kind.type == "rewrite"):
        for prompt, unit, failed in _failed(rows, specialist, section):
            row, fault = failed[0]
            if not prompt.accepted:
                lesson = {"turns": [("assistant", row["answer"]), ("user", kind.say.replace("{fault}", fault))], "target": ""}
                shown = {"fault": fault, **{name: row[name] for name in SHOWN}}
                found.append(_example(row, lesson, unit, section, kind.type) | shown)
    return pa.Table.from_pylist(found, schema=UNSOLVED)


def _failed(rows: pa.Table, specialist: Specialist, section: Curation) -> Iterator[tuple[Asked, TaskUnit, list[tuple[Row, str]]]]:
    """Yield each prompt with failed answers of which it is known what does not hold, in words."""
    for prompt in asked(rows, section):
        failed = [(row, fault) for row in prompt.failed if row["finish_reason"] == "stop" and (fault := fault_of(row))]
        unit = specialist.unit(failed[0][0]["task_unit"]) if failed else None
        if unit and unit.supervise != "tools":
            yield prompt, unit, failed


def fault_of(row: Row) -> str:
    """Return in words what does not hold of an answer; "" if neither a check nor a person says."""
    details = {check["tag"]: check["detail"] for check in row["checks"] or () if not check["passed"]}
    found = [
        FAULTS.get(tag, f"{tag.replace('_', ' ')}: {{detail}}").replace("{detail}", details.get(tag) or "")
        for tag in row["reasons"]
        if tag in FAULTS or (tag in details and tag != "no_reference")  # nothing to compare with is no fault
    ]
    return "; ".join(found)


def _correction(kind: CorrectionMaterial, prompt: Asked, row: Row, unit: TaskUnit, fault: str) -> Iterator[tuple[Row, Lesson]]:
    if prompt.accepted:
        right = target(represent(prompt.accepted[0]["answer"], unit), unit)
        yield row, {"turns": [("assistant", row["answer"]), ("user", kind.say.replace("{fault}", fault))], "target": right}


def _contrast(kind: ContrastMaterial, prompt: Asked, row: Row, unit: TaskUnit, fault: str) -> Iterator[tuple[Row, Lesson]]:
    shown = [(row, kind.fails.replace("{fault}", fault)), *((one, kind.holds) for one in prompt.accepted[:1])]
    for one, said in shown:
        yield one, {"turns": [("user", kind.ask.replace("{answer}", one["answer"]))], "target": said}


def _refusal(kind: RefusalMaterial, prompt: Asked, row: Row, unit: TaskUnit, fault: str) -> Iterator[tuple[Row, Lesson]]:
    invented = _invented(row)
    if invented and not prompt.accepted and unit.on_missing == "abstain":
        form = {name: None if name in invented else value for name, value in parse(row["answer"]).items()}
        parts = represent(json.dumps(form, ensure_ascii=False), unit)
        yield row, {"turns": [], "target": parts.final, "limits": parts.limits}


def _ask(kind: AskMaterial, prompt: Asked, row: Row, unit: TaskUnit, fault: str) -> Iterator[tuple[Row, Lesson]]:
    """A field is missing if an answer invented it and the accepted one, if there is one, leaves it open."""
    known = parse(prompt.accepted[0]["answer"]) if prompt.accepted else {}
    missing = [name for name in _invented(row) if isinstance(known, dict) and known.get(name) is None]
    if missing:
        names = ", ".join(name.replace("_", " ") for name in missing)
        yield row, {"turns": [("user", kind.ask)], "target": kind.says.replace("{missing}", names), "limits": names}


MAKERS: dict[str, Callable[..., Iterator[tuple[Row, Lesson]]]] = {
    "correction": _correction,
    "contrast": _contrast,
    "refusal": _refusal,
    "ask": _ask,
}


def _invented(row: Row) -> list[str]:
    """Fields of which a value does not stand in the input, if a check looked at that."""
    form = parse(row["answer"])
    if "ungrounded" not in row["reasons"] or not isinstance(form, dict):
        return []
    return [name for name, value in form.items() if any(not occurs(one, row["text"]) for one in values(value))]


def _example(row: Row, lesson: Lesson, unit: TaskUnit, section: Curation, kind: str) -> dict[str, Any]:
    turns = [*row["messages"], *({"role": role, "content": said} for role, said in lesson["turns"])]
    return {
        "example_id": f"{row['answer_id']}-{kind}",
        "messages": instruct(turns, system=unit.instruction),
        "target": lesson["target"],
        "final": lesson["target"],
        "rationale": "",
        "limits": lesson.get("limits", ""),
        **{name: row[name] for name in ("prompt_id", "task_unit", "pool", "layer", "difficulty", "cluster", "confidence_tier")},
        "weight": 1.0,
        "split": split(row["prompt_id"], share=section.pick.validation, seed=section.seed),
        "kind": kind,
    }


def most(examples: int, share: float) -> int:
    """Return how many boundary examples may stand beside `examples` others, so that they are at most `share` of all."""
    return int(examples * share / (1 - share) + 1e-9)


def chosen(ids: pa.Table, count: int, seed: int) -> pa.Array:
    """Return the example_ids that have a place: the first `count` by hash, the same whatever their order."""
    ranked = sorted(ids["example_id"].to_pylist(), key=lambda one: content_id("boundary", seed, one))
    return pa.array(ranked[:count], pa.string())


def of(made: pa.Table, ids: pa.Array) -> pa.Table:
    """Return the examples with one of `ids`."""
    return made.filter(pc.is_in(made["example_id"], ids))
