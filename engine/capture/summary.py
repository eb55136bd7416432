"""What a shard of CAPTURE holds, as sums, and the metrics of all shards."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.capture.compact import joined, probabilities, unpack
from engine.records.capture import TeacherCapture
from engine.rows import Row

SUMS = ("examples", "masked", "tokens", "agreed", "entries", "tail", "read")


def summary(rows: pa.Table) -> Row:
    """Return the sums of the rows of one teacher that were scored, and the ids that occur in them; plain JSON values."""
    scored = rows.filter(pc.equal(rows["finish_reason"], "stop"))
    stored = joined([unpack(row) for row in scored.to_pylist()])
    _, tails = probabilities(stored)
    values = (
        scored.num_rows,
        pc.sum(scored["masked"]).as_py() or 0,
        len(stored.ranks),
        int((stored.ranks == 0).sum()),
        len(stored.ids),
        round(float(tails.sum()), 6),
        pc.sum(scored["tokens_in"]).as_py() or 0,
    )
    return {**dict(zip(SUMS, values, strict=True)), "ids": np.unique(stored.ids).tolist()}


def metrics_of(summaries: Sequence[Row], size: int) -> TeacherCapture:
    """Return the metrics of one teacher from the summaries of its shards, which take `size` bytes."""
    totals = {name: sum(each[name] for each in summaries) for name in SUMS}
    tokens = totals["tokens"]

    def per_token(value: float) -> float:
        return round(value / tokens, 6) if tokens else 0.0

    return TeacherCapture(
        examples=totals["examples"],
        masked=totals["masked"],
        target_tokens=tokens,
        tokens_read=totals["read"],
        agreement=per_token(totals["agreed"]),
        mean_k=per_token(totals["entries"]),
        mean_tail=per_token(totals["tail"]),
        bytes_per_token=per_token(size),
    )
