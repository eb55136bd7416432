"""What a person said of answers, in place of what judges said: right is learnt, wrong is shown as such, a correction is added."""

import pyarrow as pa
import pyarrow.compute as pc

from engine.checks import is_abstention
from engine.rows import content_id

LABELS = ("right", "wrong", "corrected")
LABEL = pa.schema([("answer_id", pa.string()), ("label", pa.string()), ("correction", pa.string())])
PERSON = "person"


def apply_labels(rows: pa.Table, labels: pa.Table) -> pa.Table:
    """CANDIDATE, or some of its columns with `answer_id` and `answer`, in and out; corrections are rows of their own at the end.

    A right answer goes to `train`, or to `refusal` if it abstains; a wrong or corrected one to `contrast`; the correction to where
    a right answer would. A person is sure: confidence 1 or 0, tier 0 or none, judge `person`.
    """
    said = labels.filter(pc.is_in(labels["answer_id"], rows["answer_id"].combine_chunks()))
    if not said.num_rows:
        return rows
    given = {row["answer_id"]: row for row in said.to_pylist()}
    is_labelled = pc.is_in(rows["answer_id"], said["answer_id"].combine_chunks())
    changed = []
    for row in rows.filter(is_labelled).to_pylist():
        label = given[row["answer_id"]]
        changed.append(row | _verdict(row["answer"], label["label"], row))
        if label["label"] == "corrected":
            changed.append(row | _written(row, label["correction"]))
    return pa.concat_tables([rows.filter(pc.invert(is_labelled)), pa.Table.from_pylist(changed, schema=rows.schema)])


def _verdict(answer: str, label: str, row: dict[str, object]) -> dict[str, object]:
    """What changes of a row that a person labelled, as far as it has these columns."""
    is_right = label == "right"
    where = ("refusal" if is_abstention(answer) else "train") if is_right else "contrast"
    said = {
        "pool": where,
        "reasons": [*(["accepted"] if is_right else []), f"person_{label}"],
        "confidence": float(is_right),
        "confidence_tier": 0 if is_right else None,
        "judge": PERSON,
        **{"score": None, "dimension_scores": [], "rubric_spread": None, "judge_decides": True},
    }
    return {name: value for name, value in said.items() if name in row}


def _written(row: dict[str, object], correction: str) -> dict[str, object]:
    """The row of a correction: by nobody's model, with the corrected answer as its parent."""
    said = {
        **_verdict(correction, "right", row),
        "answer_id": corrected_id(str(row["answer_id"]), correction),
        "answer": correction,
        **{"teacher": "", "sample": 0, "seed": None, "reasoning": "", "trajectory": [], "logprob": None, "checks": []},
        **{
            "tokens_in": 0,
            "tokens_out": 0,
            "seconds": 0.0,
            "agreement": None,
            "finish_reason": "stop",
            "error": "",
            "relation": "",
        },
        **{"quality": None, "ifd": None, "density": None},  # measured of what was corrected
        "parents": [row["answer_id"]],
        "reasons": ["accepted", "person_wrote"],
    }
    return {name: value for name, value in said.items() if name in row}


def corrected_id(answer_id: str, correction: str) -> str:
    """Return the answer_id of a person's correction."""
    return content_id("corrected", answer_id, correction)
