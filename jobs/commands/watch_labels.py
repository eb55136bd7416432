"""`rayleigh watch --labels`: the accuracy of one deployment from labels of some of its requests, and which to label next."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from engine.contract.serving import Monitor as Section
from engine.errors import InputError
from engine.records.monitor import LabelledAccuracy
from engine.records.watch import ToLabel
from engine.rows import Row
from engine.serving.trickle import Draw, Labelled, accuracy, draw
from jobs.commands.sql import Views

SHOWN_LABELS = 20
ROWS = """
    select r.request_id, r.confidence, case when s.challenger = s.champion then s.agrees else s.champion_agrees end as agrees
    from requests r left join shadows s on r.request_id = s.request_id where r.status = 200 and r.deployment = ?
"""


def read_labels(path: str | None) -> dict[str, bool]:
    """Return request -> whether its answer was right.

    Raises:
        InputError: the file is missing, or a line of it is no label.
    """
    if path is None:
        return {}
    found: dict[str, bool] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--labels {path}: cannot be read: {error}.") from None
    for number, line in enumerate(lines, start=1):
        try:
            label = json.loads(line) if line.strip() else None
            if label is not None:
                found[str(label["request_id"])] = {True: True, False: False}[label["right"]]
        except (ValueError, KeyError, TypeError):
            expected = '{"request_id": "...", "right": true}'
            raise InputError(f"--labels {path}:{number}: found {line[:60]!r}, expected {expected}.") from None
    return found


def labelled(folder: Path, deployment: str, labels: Mapping[str, bool], section: Section) -> dict[str, object]:
    """Return fields of a `WatchView`: the accuracy of the answers of `deployment` that `labels` estimate, and what to label next.

    Raises:
        RecordsMoved: files of the records were put together meanwhile.
    """
    rows = Views(str(folder)).rows(ROWS, [deployment])
    drawn = [draw(row["request_id"], None if row["agrees"] is None else not row["agrees"], section) for row in rows]
    found = LabelledAccuracy()
    if rows:
        is_right = [labels.get(row["request_id"]) if each.asked else None for row, each in zip(rows, drawn, strict=True)]
        found = accuracy(
            Labelled(
                predicted=_numbers(row["confidence"] for row in rows),
                probability=np.array([each.probability for each in drawn]),
                right=_numbers(is_right),
                drawn=np.array([each.asked for each in drawn]),
                stratum=np.array([row["agrees"] is False for row in rows]),
            )
        )
    todo = [(row, each) for row, each in zip(rows, drawn, strict=True) if each.asked and row["request_id"] not in labels]
    return {"accuracy": found.model_copy(update={"deployment": deployment}), "to_label": _next(todo)}


def _numbers(values: Iterable[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _next(todo: Iterable[tuple[Row, Draw]]) -> tuple[ToLabel, ...]:
    """Return the first requests of both strata in turn, disagreements first; within each the order of the draw, which is random."""
    strata: dict[bool, list[tuple[int, ToLabel]]] = {True: [], False: []}
    for row, _ in sorted(todo, key=lambda each: each[1].place):
        disagrees = row["agrees"] is False
        strata[disagrees].append((len(strata[disagrees]), ToLabel(request_id=row["request_id"], disagrees=disagrees)))
    in_turn = sorted([*strata[True], *strata[False]], key=lambda each: each[0])  # stable: the disagreement before the other
    return tuple(each for _, each in in_turn[:SHOWN_LABELS])
