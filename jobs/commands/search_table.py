"""The table `trials` of a search."""

import json
from collections.abc import Sequence

import pyarrow as pa

from engine.records.record import Identity
from engine.records.search import Trial
from engine.rows import from_rows
from engine.storage.artifact import ArtifactWriter, RowCounts
from engine.storage.folder import Folder

ENDED = ("finished", "killed", "budget", "failed")
"""States of a trial that is over."""
TRIAL = pa.schema(  # one row per trial of a search, best first
    [
        ("student", pa.string()),
        ("rank", pa.int32()),  # 1 = best
        ("trial", pa.string()),
        ("values", pa.string()),  # JSON: dotted key of the student -> value
        ("status", pa.string()),  # finished | killed | budget | failed
        ("score", pa.float32()),  # more is better: exact match, or the validation loss with its sign changed; null = no validation
        ("loss", pa.float32()),  # of its best weights, nats per target token
        ("metric", pa.float32()),  # their exact match, if it was measured
        ("epochs", pa.float32()),
        ("steps", pa.int32()),
        ("tokens", pa.int64()),  # target tokens learned
        ("seconds", pa.float32()),  # of training
        ("error", pa.string()),  # "" = none
    ]
)


def write_table(run: Folder, student: str, ranked: Sequence[Trial], base: str) -> None:
    """Write the trials of the search `base`, best first, as the artifact `search/STUDENT/table`."""
    name = f"search/{student}/table"
    writer = ArtifactWriter(run / name)
    writer.clear()
    rows = [
        {**trial.model_dump(exclude={"values", "curve"}), "student": student, "rank": rank}
        | {"values": json.dumps(trial.values, sort_keys=True)}
        for rank, trial in enumerate(ranked, 1)
    ]
    writer.put("trials", from_rows(rows, TRIAL), TRIAL)
    counts = {status: sum(trial.status == status for trial in ranked) for status in (*ENDED, "running")}
    writer.finish(Identity(name, {}, {}, base), RowCounts(len(rows), counts))
