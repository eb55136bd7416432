"""Which candidates resemble protected texts, by n-grams and by embedding, and the summary of it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Decontaminate, Part
from engine.curation.ngram_index import KINDS, Match, NgramIndex, overlaps
from engine.curation.represent import parts_of
from engine.dedup.vectors import matrix
from engine.records.dataset import ClosestAnswer, Decontamination, DecontaminationSettings, RemovedAnswers
from engine.rows import Row

KEYS = ["list", "part", "method"]
CLOSEST = 5  # answers of each method in the summary
AT_ONCE = 4_096  # rows whose cosines to all protected texts are in memory
POSITION: dict[Part, int] = {"rationale": 0, "answer": 1}  # in represent.parts_of
CONTAMINATION = pa.schema(  # the protected text that an answer resembles most
    [
        ("answer_id", pa.string()),
        ("list", pa.string()),  # null: it resembles nothing
        ("id", pa.string()),
        ("part", pa.string()),
        ("method", pa.string()),  # ngram | embedding
        ("similarity", pa.float32()),
        ("is_contaminated", pa.bool_()),
    ]
)
COLUMNS: dict[Part, str] = {"prompt": "embedding", "answer": "answer_embedding", "rationale": "rationale_embedding"}


def by_ngrams(rows: pa.Table, index: NgramIndex, section: Decontaminate) -> pa.Table:
    """Return CONTAMINATION of rows with `answer_id`, `text` and `answer`, in their order, by the part with the largest overlap."""
    best: list[tuple[Match, Part] | None] = [None] * len(rows)
    for part, texts in _parts(rows, section):
        matches = overlaps(dict.fromkeys(texts), index, section, part=part)  # a prompt is looked up once for all its samples
        for row, text in enumerate(texts):
            match, before = matches.get(text), best[row]
            if match and (before is None or match.similarity > before[0].similarity):
                best[row] = (match, part)
    return _table(rows, [_row(nearest, "ngram", section.overlap) for nearest in best])


def by_embedding(rows: pa.Table, protected: pa.Table, section: Decontaminate) -> pa.Table:
    """Return CONTAMINATION of EMBEDDED rows, in their order, by the part that is nearest to its threshold.

    `protected` is PROTECTED with `embedding`; if it is empty, nothing is contaminated. Prompts are compared even without a
    threshold, for the summary.
    """
    thresholds: dict[Part, float] = {"prompt": 2.0, **section.similarity}
    best: list[tuple[float, Match, Part] | None] = [None] * len(rows)
    for part, column in COLUMNS.items():
        texts = protected.filter(pc.is_in(protected["kind"], pa.array(KINDS[part])))
        if part not in thresholds or not len(texts):
            continue
        where = np.flatnonzero(rows[column].is_valid().to_numpy())
        number, cosine = _nearest(matrix(rows[column].drop_null()), matrix(texts["embedding"]))
        lists, ids = texts["list"].to_pylist(), texts["id"].to_pylist()
        for row, at, similarity in zip(where.tolist(), number.tolist(), cosine.tolist(), strict=True):
            before, gap = best[row], similarity - thresholds[part]
            if before is None or gap > before[0]:
                best[row] = (gap, Match(lists[at], ids[at], similarity), part)
    closest = (nearest and nearest[1:] for nearest in best)
    return _table(rows, [_row(nearest, "embedding", thresholds[nearest[1]] if nearest else 0.0) for nearest in closest])


class Resemblance(NamedTuple):
    """What the summary needs of some rows of CONTAMINATION."""

    checked: int  # answers that were compared by n-grams, as all are
    removed: pa.Table  # list, part, method, answers
    closest: pa.Table  # CONTAMINATION of the CLOSEST answers that stay, by method


def counted(rows: pa.Table, kept: pa.Array) -> Resemblance:
    """Return the counts of CONTAMINATION rows, every answer whole; `kept` are the ids of the answers that stay."""
    removed = rows.filter(rows["is_contaminated"]).group_by(KEYS, use_threads=False).aggregate([("answer_id", "count")])
    removed = removed.rename_columns({"answer_id_count": "answers"})
    near = rows.filter(pc.and_(pc.is_in(rows["answer_id"], kept), rows["list"].is_valid()))
    by_words = rows.filter(pc.equal(rows["method"], "ngram"))
    return Resemblance(len(pc.unique(by_words["answer_id"])), removed, _closest(near))


def summary(parts: Sequence[Resemblance], protected: pa.Table, section: Decontaminate) -> Decontamination:
    """Return the summary of all `parts`; of PROTECTED only the column `list` is read."""
    removed = pa.concat_tables([part.removed for part in parts]).group_by(KEYS, use_threads=False).aggregate([("answers", "sum")])
    removed = removed.rename_columns({"answers_sum": "answers"}).sort_by([(name, "ascending") for name in KEYS])
    closest = _closest(pa.concat_tables([part.closest for part in parts])).drop_columns(["is_contaminated"])
    lists = pc.value_counts(protected["list"]).to_pylist()
    return Decontamination(
        checked=sum(part.checked for part in parts),
        lists={pair["values"]: pair["counts"] for pair in sorted(lists, key=lambda pair: pair["values"])},
        settings=DecontaminationSettings.model_validate(section.model_dump()),
        removed=tuple(RemovedAnswers(**row) for row in removed.to_pylist()),
        closest=tuple(ClosestAnswer(**row) for row in closest.to_pylist()),
    )


def _closest(rows: pa.Table) -> pa.Table:
    near = rows.sort_by([("similarity", "descending"), ("answer_id", "ascending")])
    return pa.concat_tables([near.filter(pc.equal(near["method"], method)).slice(0, CLOSEST) for method in ("ngram", "embedding")])


def _parts(rows: pa.Table, section: Decontaminate) -> Iterator[tuple[Part, list[str]]]:
    if "prompt" in section.fields:
        yield "prompt", rows["text"].to_pylist()
    if {"answer", "rationale"} & set(section.fields):
        split = [parts_of(answer or "") for answer in rows["answer"].to_pylist()]
        for part, number in POSITION.items():
            if part in section.fields:
                yield part, [parts[number] for parts in split]


def _table(rows: pa.Table, columns: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(columns, CONTAMINATION).set_column(0, "answer_id", rows["answer_id"]).cast(CONTAMINATION)


def _row(nearest: tuple[Match, Part] | None, method: str, threshold: float) -> Row:
    if nearest is None:
        return {"method": method, "is_contaminated": False}
    match, part = nearest
    return {**match._asdict(), "part": part, "method": method, "is_contaminated": match.similarity >= threshold}


def _nearest(vectors: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the nearest of `texts` to each row, the first of equals, and the cosine."""
    number, cosine = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), AT_ONCE):
        products = vectors[start : start + AT_ONCE] @ texts.T
        number[start : start + AT_ONCE], cosine[start : start + AT_ONCE] = products.argmax(axis=1), products.max(axis=1)
    return number, cosine
