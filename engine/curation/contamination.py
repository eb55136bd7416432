"""Which candidates resemble what must stay unknown, by words and by meaning; and the report of it.

facts.decontamination
    checked     answers that were looked at
    lists       {list: texts} of the holdout and of every evaluation list
    settings    the contract's section, without its lists
    removed     [{list, part, method, answers}]: what is out as contaminated, by the text that it resembled most; an answer that
                is learnt beside a better one to its prompt goes where that one goes, and is compared by words only
    closest     [{answer_id, list, id, part, method, similarity}]: what stays and comes nearest, at most CLOSEST of each method
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Decontaminate, Part
from engine.curation.decontaminate import KINDS, Hit, Index, overlaps
from engine.curation.represent import parts_of
from engine.dedup.vectors import matrix

CLOSEST = 5
AT_ONCE = 4_096  # rows whose cosines to all listed texts are held at once
PLACES: dict[Part, int] = {"rationale": 0, "answer": 1}  # in represent.parts_of
LEAK = pa.schema(  # what an answer resembles most, whether or not that puts it out
    [
        ("answer_id", pa.string()),
        ("list", pa.string()),  # null: it resembles nothing
        ("id", pa.string()),
        ("part", pa.string()),
        ("method", pa.string()),  # ngram | embedding
        ("similarity", pa.float32()),
        ("is_out", pa.bool_()),
    ]
)
COLUMNS: dict[Part, str] = {"prompt": "embedding", "answer": "answer_embedding", "rationale": "rationale_embedding"}


def by_words(rows: pa.Table, index: Index, section: Decontaminate) -> pa.Table:
    """Return LEAK of rows with `answer_id`, `text` and `answer`, in their order: of the part that shares the largest share."""
    best: list[tuple[Hit, Part] | None] = [None] * len(rows)
    for part, texts in _parts(rows, section):
        found = overlaps(list(dict.fromkeys(texts)), index, section, part=part)  # n samples of a prompt are looked up once
        for row, text in enumerate(texts):
            hit, before = found.get(text), best[row]
            if hit and (before is None or hit.similarity > before[0].similarity):
                best[row] = (hit, part)
    made = [_leak(one, "ngram", section.overlap) for one in best]
    return pa.Table.from_pylist(made, LEAK).set_column(0, "answer_id", rows["answer_id"]).cast(LEAK)


def by_meaning(rows: pa.Table, known: pa.Table, section: Decontaminate) -> pa.Table:
    """Return LEAK of EMBEDDED rows, in their order, for `known`, LISTED with `embedding`: of the part that is nearest its limit.

    A prompt is compared also where the contract sets it no limit, so that the report can say how near the nearest is.
    """
    limits: dict[Part, float] = {"prompt": 2.0, **section.similarity}
    best: list[tuple[float, Hit, Part] | None] = [None] * len(rows)
    for part, column in COLUMNS.items():
        texts = known.filter(pc.is_in(known["kind"], pa.array(KINDS[part])))
        if part not in limits or not len(texts):
            continue
        where = np.flatnonzero(rows[column].is_valid().to_numpy())
        number, cosine = _nearest(matrix(rows[column].drop_null()), matrix(texts["embedding"]))
        lists, ids = texts["list"].to_pylist(), texts["id"].to_pylist()
        for row, at, similarity in zip(where.tolist(), number.tolist(), cosine.tolist(), strict=True):
            before, gap = best[row], similarity - limits[part]
            if before is None or gap > before[0]:
                best[row] = (gap, Hit(lists[at], ids[at], similarity), part)
    made = [_leak(one and one[1:], "embedding", limits[one[2]] if one else 0.0) for one in best]
    return pa.Table.from_pylist(made, LEAK).set_column(0, "answer_id", rows["answer_id"]).cast(LEAK)


def told(leaks: pa.Table, kept: pa.Array, known: pa.Table, section: Decontaminate) -> dict[str, Any]:
    """Return the report that the module describes; `kept` are the ids of the answers that stay, `known` is LISTED."""
    out = leaks.filter(leaks["is_out"]).group_by(["list", "part", "method"], use_threads=False).aggregate([("answer_id", "count")])
    out = out.rename_columns({"answer_id_count": "answers"}).sort_by([(name, "ascending") for name in ("list", "part", "method")])
    near = leaks.filter(pc.and_(pc.is_in(leaks["answer_id"], kept), leaks["list"].is_valid()))
    near = near.drop_columns(["is_out"]).sort_by([("similarity", "descending"), ("answer_id", "ascending")])
    closest = [near.filter(pc.equal(near["method"], method)).slice(0, CLOSEST) for method in ("ngram", "embedding")]
    counted = pc.value_counts(known["list"]).to_pylist()
    return {
        "checked": len(pc.unique(leaks["answer_id"])),
        "lists": {pair["values"]: pair["counts"] for pair in sorted(counted, key=lambda pair: pair["values"])},
        "settings": section.model_dump(mode="json", exclude={"lists"}),
        "removed": out.to_pylist(),
        "closest": [row for table in closest for row in table.to_pylist()],
    }


def _parts(rows: pa.Table, section: Decontaminate) -> Iterator[tuple[Part, list[str]]]:
    if "prompt" in section.fields:
        yield "prompt", rows["text"].to_pylist()
    if {"answer", "rationale"} & set(section.fields):
        said = [parts_of(answer or "") for answer in rows["answer"].to_pylist()]
        for part, number in PLACES.items():
            if part in section.fields:
                yield part, [parts[number] for parts in said]


def _leak(found: tuple[Hit, Part] | None, method: str, limit: float) -> dict[str, Any]:
    if found is None:
        return {"method": method, "is_out": False}
    hit, part = found
    return {**hit._asdict(), "part": part, "method": method, "is_out": hit.similarity >= limit}


def _nearest(vectors: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of the nearest of `known` to each row, the first of equals, and the cosine."""
    number, cosine = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), AT_ONCE):
        found = vectors[start : start + AT_ONCE] @ known.T
        number[start : start + AT_ONCE], cosine[start : start + AT_ONCE] = found.argmax(axis=1), found.max(axis=1)
    return number, cosine
