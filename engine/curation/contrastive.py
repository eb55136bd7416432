"""Contrastive examples from failed answers: the fault, the correction, a refusal, or a question for what is missing.

Most are made by rule; `repair` asks a model. The fault is what a check found. A target is built only from facts: the accepted
answer to the same prompt, the fault itself, or the answer without the values that the input does not contain. Refusals: Zhang et
al., "R-Tuning: instructing large language models to say 'I don't know'" (2024). Corrections: An et al., "Learning from mistakes
makes LLM better reasoner" (2023).
"""

import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.checks import NOT_COMPARED, parse
from engine.checks.grounded import occurs, values
from engine.contract.curation import Curation
from engine.contract.derived import ContrastExamples, CorrectionExamples, QuestionExamples, RefusalExamples
from engine.contract.specialist import Specialist, TaskUnit
from engine.curation.prompt_answers import PromptAnswers, by_prompt
from engine.curation.represent import represent, split, target
from engine.inference.engine import instruct
from engine.rows import EXAMPLE, Row, content_id, grow

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
"""Reason -> the fault in words; any other reason is its tag and the check's detail."""

SHOWN = ("text", "answer", "reference", "scenario", "language")
RANK = pa.schema([("rank", pa.uint64())])
RANGE_BITS = 12  # the ranges of ranks in which examples are counted
UNSOLVED = grow(EXAMPLE, *((name, pa.string()) for name in (*SHOWN, "fault")))  # without target, with the columns that checks read


class Turns(NamedTuple):
    """The turns that follow the prompt, and the target."""

    turns: list[tuple[str, str]]  # (role, content)
    target: str
    limits: str = ""


Built = Iterator[tuple[Row, Turns]]
"""Examples made of one failed answer: the answer that is shown, and the turns that follow its prompt."""


def contrastive_examples(rows: pa.Table, specialist: Specialist, section: Curation) -> pa.Table:
    """Return EXAMPLE made by rule, of each kind from at most one failed answer of a prompt.

    `rows` have prompt_answers.COLUMNS and every prompt whole.
    """
    specs, examples = [spec for spec in section.contrastive if spec.type != "rewrite"], []
    for prompt, unit, failed in _failed(rows, specialist, section):
        for spec in specs:
            built = (list(BUILDERS[spec.type](spec, prompt, row, unit, fault)) for row, fault in failed)
            examples += [_example(source, turns, unit, section, spec.type) for source, turns in next(filter(None, built), [])]
    return pa.Table.from_pylist(examples, schema=EXAMPLE)


def unsolved(rows: pa.Table, specialist: Specialist, section: Curation) -> pa.Table:
    """Return UNSOLVED: the first failed answer of each prompt without an accepted answer, to be repaired by a model."""
    examples = []
    for spec in (spec for spec in section.contrastive if spec.type == "rewrite"):
        for prompt, unit, failed in _failed(rows, specialist, section):
            row, fault = failed[0]
            if not prompt.accepted:
                turns = Turns(_feedback(row, spec.feedback_template, fault), "")
                shown = {"fault": fault, **{name: row[name] for name in SHOWN}}
                examples.append(_example(row, turns, unit, section, spec.type) | shown)
    return pa.Table.from_pylist(examples, schema=UNSOLVED)


def _failed(
    rows: pa.Table, specialist: Specialist, section: Curation
) -> Iterator[tuple[PromptAnswers, TaskUnit, list[tuple[Row, str]]]]:
    """Yield each prompt with its failed answers whose fault is known, and the fault in words."""
    for prompt in by_prompt(rows, section):
        failed = [(row, fault) for row in prompt.failed if row["finish_reason"] == "stop" and (fault := fault_of(row))]
        unit = specialist.unit(failed[0][0]["task_unit"]) if failed else None
        if unit and unit.supervise != "tools":
            yield prompt, unit, failed


def fault_of(row: Row) -> str:
    """Return the fault of an answer in words; "" if neither a check nor a person named one."""
    details = {check["tag"]: check["detail"] for check in row["checks"] or () if not check["passed"]}
    return "; ".join(
        FAULTS.get(tag, f"{tag.replace('_', ' ')}: {{detail}}").replace("{detail}", details.get(tag) or "")
        for tag in row["reasons"]
        if tag in FAULTS or (tag in details and tag not in NOT_COMPARED)
    )


def _feedback(row: Row, template: str, fault: str) -> list[tuple[str, str]]:
    return [("assistant", row["answer"]), ("user", template.replace("{fault}", fault))]


def _correction(spec: CorrectionExamples, prompt: PromptAnswers, row: Row, unit: TaskUnit, fault: str) -> Built:
    if prompt.accepted:
        right = target(represent(prompt.accepted[0]["answer"], unit), unit)
        yield row, Turns(_feedback(row, spec.feedback_template, fault), right)


def _contrast(spec: ContrastExamples, prompt: PromptAnswers, row: Row, unit: TaskUnit, fault: str) -> Built:
    replies = [(row, spec.reply_if_wrong.replace("{fault}", fault))]
    for shown, reply in replies + [(right, spec.reply_if_right) for right in prompt.accepted[:1]]:
        yield shown, Turns([("user", spec.prompt_template.replace("{answer}", shown["answer"]))], reply)


def _refusal(spec: RefusalExamples, prompt: PromptAnswers, row: Row, unit: TaskUnit, fault: str) -> Built:
    invented = _invented(row)
    if invented and not prompt.accepted and unit.on_missing == "abstain":
        form = {name: None if name in invented else value for name, value in parse(row["answer"]).items()}
        parts = represent(json.dumps(form, ensure_ascii=False), unit)
        yield row, Turns([], parts.final, parts.limits)


def _ask(spec: QuestionExamples, prompt: PromptAnswers, row: Row, unit: TaskUnit, fault: str) -> Built:
    """A field is missing if the failed answer invented it and the accepted one, if there is one, leaves it open."""
    accepted = parse(prompt.accepted[0]["answer"]) if prompt.accepted else {}
    missing = [name for name in _invented(row) if isinstance(accepted, dict) and accepted.get(name) is None]
    if missing:
        names = ", ".join(name.replace("_", " ") for name in missing)
        yield row, Turns([("user", spec.prompt_template)], spec.reply_template.replace("{missing}", names), names)


BUILDERS: dict[str, Callable[..., Built]] = {"correction": _correction, "contrast": _contrast, "refusal": _refusal, "ask": _ask}


def _invented(row: Row) -> list[str]:
    """Return the fields with a value that the input does not contain, if the check `grounded` failed."""
    form = parse(row["answer"])
    if "ungrounded" not in row["reasons"] or not isinstance(form, dict):
        return []
    return [name for name, value in form.items() if any(not occurs(text, row["text"]) for text in values(value))]


def _example(row: Row, built: Turns, unit: TaskUnit, section: Curation, kind: str) -> Row:
    turns = [*row["messages"], *({"role": role, "content": content} for role, content in built.turns)]
    return {
        "example_id": f"{row['answer_id']}-{kind}",
        "messages": instruct(turns, system=unit.instruction),
        "target": built.target,
        "final": built.target,
        "rationale": "",
        "limits": built.limits,
        **{name: row[name] for name in ("prompt_id", "task_unit", "pool", "layer", "difficulty", "cluster", "confidence_tier")},
        "weight": 1.0,
        "split": split(row["prompt_id"], share=section.pick.validation, seed=section.seed),
        "kind": kind,
    }


def max_contrastive(examples: int, share: float) -> int:
    """Return the most contrastive examples in addition to `examples` others, so that they are at most `share` of all."""
    return int(examples * share / (1 - share) + 1e-9)


def ranks(examples: pa.Table, seed: int) -> pa.Table:
    """Return RANK of each example: the first 64 bits of a hash of its id, so that a choice is the same for any order."""
    # "boundary" is the older name of these examples; another word would choose others.
    hashes = (content_id("boundary", seed, name) for name in examples["example_id"].to_pylist())
    return pa.table({"rank": pa.array([int(name[:16], 16) for name in hashes], pa.uint64())})


class Last(NamedTuple):
    """Where the highest rank of the examples with the lowest ones is."""

    range: int  # of 2^RANGE_BITS ranges of equal width; -1: there is none
    place: int  # among the ranks of the range, in ascending order


def counted(ranked: pa.Table) -> np.ndarray:
    """Return how many of the RANK rows are in each range."""
    return np.bincount(_ranges(ranked), minlength=1 << RANGE_BITS)


def last(count: int, *counts: np.ndarray) -> Last:
    """Return where the highest of the `count` lowest ranks is; `counts` are those of `counted` for all parts of the examples."""
    before = np.cumsum(np.sum([np.zeros(1 << RANGE_BITS, np.int64), *counts], axis=0))
    count = min(count, int(before[-1]))
    if not count:
        return Last(-1, 0)
    found = int(np.searchsorted(before, count))
    return Last(found, count - 1 - (int(before[found - 1]) if found else 0))


def near(last: Last, ranked: pa.Table) -> np.ndarray:
    """Return the ranks of the RANK rows that are in the range of `last`."""
    return ranked["rank"].to_numpy()[_ranges(ranked) == last.range] if len(ranked) else np.zeros(0, np.uint64)


def highest(last: Last, *ranks: np.ndarray) -> int:
    """Return the rank that `last` is the place of, among those of `near` for all parts; -1 if there is none."""
    return -1 if last.range < 0 else int(np.partition(np.concatenate(ranks), last.place)[last.place])


def _ranges(ranked: pa.Table) -> np.ndarray:
    ranks = ranked["rank"].to_numpy() if len(ranked) else np.zeros(0, np.uint64)  # a block of Ray's may lack the column
    return (ranks >> np.uint64(64 - RANGE_BITS)).astype(np.int64)


def up_to(examples: pa.Table, rank: int, seed: int) -> pa.Table:
    """Return the examples of at most `rank`."""
    return examples.filter(pa.array([mine <= rank for mine in ranks(examples, seed)["rank"].to_pylist()], pa.bool_()))
