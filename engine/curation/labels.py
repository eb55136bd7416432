"""Labels of persons replace the verdicts of judges: right answers are kept, wrong ones rejected, corrections added."""

import pyarrow as pa
import pyarrow.compute as pc

from engine.checks import is_abstention
from engine.rows import Row, content_id

LABELS = ("right", "wrong", "corrected")
LABEL = pa.schema([("answer_id", pa.string()), ("label", pa.string()), ("correction", pa.string())])
PERSON = "person"


def apply_labels(rows: pa.Table, labels: pa.Table) -> pa.Table:
    """Return CANDIDATE rows, or some columns of them with `answer_id` and `answer`, with `labels` (LABEL) applied.

    A right answer goes to `train`, or to `refusal` if it abstains; a wrong or corrected one to `contrast`. A correction is a row of
    its own at the end, and goes where a right answer goes. The confidence is 1 or 0, the tier 0 or null, the judge `person`.
    """
    mine = labels.filter(pc.is_in(labels["answer_id"], rows["answer_id"].combine_chunks()))
    if not mine.num_rows:
        return rows
    label_of = {row["answer_id"]: row for row in mine.to_pylist()}
    is_labelled = pc.is_in(rows["answer_id"], mine["answer_id"].combine_chunks())
    changed = []
    for row in rows.filter(is_labelled).to_pylist():
        label = label_of[row["answer_id"]]
        changed.append(row | _verdict(row["answer"], label["label"], row))
        if label["label"] == "corrected":
            changed.append(row | _correction(row, label["correction"]))
    return pa.concat_tables([rows.filter(pc.invert(is_labelled)), pa.Table.from_pylist(changed, schema=rows.schema)])


def _verdict(answer: str, label: str, row: Row) -> Row:
    """Return the columns of `row` that a label changes."""
    is_right = label == "right"
    pool = ("refusal" if is_abstention(answer) else "train") if is_right else "contrast"
    columns = {
        "pool": pool,
        "reasons": [*(["accepted"] if is_right else []), f"person_{label}"],
        "confidence": float(is_right),
        "confidence_tier": 0 if is_right else None,
        "judge": PERSON,
        **{"score": None, "dimension_scores": [], "rubric_spread": None, "judge_decides": True},
    }
    return {name: value for name, value in columns.items() if name in row}


def _correction(row: Row, correction: str) -> Row:
    """Return the row of a correction: of no teacher, with the corrected answer as its parent."""
    columns = {
        **_verdict(correction, "right", row),
        "answer_id": corrected_id(str(row["answer_id"]), correction),
        "answer": correction,
        **{"teacher": "", "sample": 0, "seed": None, "reasoning": "", "trajectory": [], "logprob": None, "checks": []},
        "token_logprobs": None,
        **{"tokens_in": 0, "tokens_out": 0, "seconds": 0.0},
        **{"agreement": None, "finish_reason": "stop", "error": "", "relation": ""},
        **{"quality": None, "ifd": None, "density": None},  # they were measured on the corrected answer
        "parents": [row["answer_id"]],
        "reasons": ["accepted", "person_wrote"],
    }
    return {name: value for name, value in columns.items() if name in row}


def corrected_id(answer_id: str, correction: str) -> str:
    """Return the answer_id of a person's correction."""
    return content_id("corrected", answer_id, correction)
