"""The evidence about labelled items, computed as it is about the answers of a run."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from engine.calibration.judge_calibration import case_of
from engine.checks import CheckInput, canonical, run_checks
from engine.contract.budget import EVIDENCE
from engine.contract.judges import GoldItem
from engine.contract.specialist import Specialist, TaskUnit
from engine.evidence import features
from engine.evidence.distance import LabelledPrompts
from engine.evidence.features import Seen
from engine.evidence.fusion import Items
from engine.evidence.reader import Read, Reader
from engine.judges.grader_spec import EvidenceSpec, GraderSpec
from engine.judges.judge import Judge
from engine.records.judge import LabelledItem
from engine.rows import Row, content_id


def labelled(judge: Judge, readers: Mapping[str, Reader]) -> list[LabelledItem]:
    """Return each labelled item with its evidence. `readers`: name -> the models of teachers and readers.

    Reading them and asking the rubrics is paid once, and not stopped by the budget: without it no confidence means anything.
    """
    spec, gold = judge.spec, judge.section.calibrate.gold if judge.section.calibrate else ()
    assert spec.evidence
    rows = [as_row(item, spec.specialist) for item in gold]
    outcomes = [run_checks(judge.section.checks, CheckInput.of(row, unit_of(spec, row["task_unit"]))) for row in rows]
    groups = [item.group or item.input for item in gold]
    tokens = _read_by_teachers(spec.evidence, gold, rows, readers)
    distances = _distances(spec.evidence, gold, groups)
    dear = _dear(judge, gold, rows, readers)
    result = []
    for index, (item, row) in enumerate(zip(gold, rows, strict=True)):
        seen = Seen(
            answer=item.answer,
            fields=fields_of(unit_of(spec, row["task_unit"])),
            checks=outcomes[index],
            tokens=tokens[index].tokens,
            agreement=sampled_agreement(item.answer, _samples(item, spec.evidence)),
            teachers=other_teachers(item.answer, item.author, item.samples),
            distance=distances[index],
        )
        numbers = features.features(spec.evidence.section.of, seen) | dear[index]
        kept = "checks" in spec.evidence.section.of or all(outcome.passed for outcome in outcomes[index])
        result.append(
            LabelledItem(
                id=content_id(item.input, item.answer),
                label=item.label,
                error=item.error,
                score=None,
                confidence=None,
                evidence=numbers,
                group=content_id(groups[index]),
                own=author_of(item, spec.evidence) is not None,
                kept=kept,
            )
        )
    return result


def in_order(every: Sequence[LabelledItem]) -> list[LabelledItem]:
    """Return the items that are kept, by id: the order of a file does not matter."""
    return sorted((each for each in every if each.kept), key=lambda each: (each.id, each.label))


def as_items(kept: Sequence[LabelledItem]) -> Items:
    """Return the evidence of items as arrays, in their order."""
    names = tuple(sorted({name for each in kept for name in each.evidence}, key=_place))
    x = [[each.evidence.get(name, np.nan) for name in names] for each in kept]
    return Items(
        names,
        np.array(x, float).reshape(len(kept), len(names)),
        np.array([each.label == "right" for each in kept], bool),
        np.array([each.own for each in kept], bool),
        np.array([each.group for each in kept], str),
    )


def sampled_agreement(answer: str, samples: Sequence[str]) -> float | None:
    """Return the share of a teacher's samples that are equal to an answer, as if it were one of them; None without samples.

    An answer that the teacher did not sample takes the place of one, as an answer of a run always is among its samples.
    """
    if not samples:
        return None
    equal = sum(canonical(sample) == canonical(answer) for sample in samples)
    return max(equal, 1) / len(samples)


def other_teachers(answer: str, teacher: str, samples: Mapping[str, Sequence[str]]) -> float | None:
    """Return the share of the other teachers whose most frequent answer is equal to `answer`; None if there are none."""
    votes = [Counter(map(canonical, of_teacher)) for name, of_teacher in samples.items() if name != teacher and of_teacher]
    if not votes:
        return None
    most = [min(counts, key=lambda text, counts=counts: (-counts[text], text)) for counts in votes]
    return sum(text == canonical(answer) for text in most) / len(most)


def author_of(item: GoldItem, spec: EvidenceSpec) -> str | None:
    """Return the teacher that wrote an item, by its name or the name of its model; None for anybody else."""
    if item.author in spec.teachers:
        return item.author
    paths = {reader.teacher.model.path: name for name, reader in spec.teachers.items()}
    return paths.get(item.author) if item.author else None


def unit_of(spec: GraderSpec, name: str) -> TaskUnit:
    """Return the task unit `name` of the contract."""
    return spec.specialist.unit(name)


def fields_of(unit: TaskUnit) -> tuple[str, ...]:
    """Return the properties of a task unit's schema."""
    return tuple((unit.output.json_schema or {}).get("properties", ()))


def as_row(item: GoldItem, specialist: Specialist) -> Row:
    """Return an item as a row of ANSWER, as far as it is read."""
    return {
        "prompt_id": content_id(item.input),
        "messages": [{"role": "user", "content": item.input}],
        "text": item.input,
        "task_unit": item.task_unit or specialist.task_units[0].name,
        "answer": item.answer,
        "reference": item.reference,
    }


def _samples(item: GoldItem, spec: EvidenceSpec) -> Sequence[str]:
    return item.samples.get(author_of(item, spec) or next(iter(spec.teachers)), ())


def _read_by_teachers(
    spec: EvidenceSpec, gold: Sequence[GoldItem], rows: Sequence[Row], readers: Mapping[str, Reader]
) -> list[Read]:
    """Return what the teacher that wrote an item, else the first, reads in it."""
    found = [Read("", None)] * len(gold)
    if not spec.section.reads:
        return found
    teachers = [author_of(item, spec) or next(iter(spec.teachers)) for item in gold]
    for name in dict.fromkeys(teachers):
        mine = [index for index, teacher in enumerate(teachers) if teacher == name]
        reads = readers[name](
            [rows[index] for index in mine], known=[gold[index].scored for index in mine], payee=EVIDENCE, capped=False
        )
        for index, read in zip(mine, reads, strict=True):
            found[index] = read
    return found


def _distances(spec: EvidenceSpec, gold: Sequence[GoldItem], groups: Sequence[str]) -> list[float | None]:
    if "distance" not in spec.section.of:
        return [None] * len(gold)
    texts = [item.input for item in gold]
    return list(LabelledPrompts(texts, groups).distances(texts, groups))


def _dear(judge: Judge, gold: Sequence[GoldItem], rows: Sequence[Row], readers: Mapping[str, Reader]) -> list[dict[str, float]]:
    """Return the numbers of rubrics and readers for each item."""
    evidence = judge.spec.evidence
    assert evidence
    numbers: list[dict[str, float]] = [{} for _ in gold]
    if judge.rubrics:
        for index, scored in enumerate(judge.score([case_of(item, judge) for item in gold], capped=False)):
            numbers[index] |= features.of_rubrics(scored.dimension_scores)
    for name in evidence.readers:
        for index, read in enumerate(readers[name](rows, payee=name, capped=False)):
            numbers[index] |= features.of_reader(name, read.tokens)
    return numbers


def _place(name: str) -> tuple[bool, int, str]:
    """Return where a number comes among others: free ones first, in the order of the kinds."""
    kinds = list(features.FUNCTIONS)
    kind = features.kind_of(name)
    return features.is_dear(name), kinds.index(kind) if kind in kinds else len(kinds), name
