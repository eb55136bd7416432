"""The table `trials` of a search."""

import json
from collections.abc import Sequence

import pyarrow as pa

from engine.columns import About, Rules, declare
from engine.records.record import Identity
from engine.records.search import Trial
from engine.rows import COUNT, NATS, NULL, SECONDS, SHARE_OR_NULL, from_rows
from engine.storage.artifact import ArtifactWriter, RowCounts
from engine.storage.folder import Folder

ENDED = ("finished", "killed", "budget", "failed")
"""States of a trial that is over."""
TRIAL = declare(
    About("One row per trial of a search, best first.", unique=("student", "trial")),
    ("student", pa.string(), "name of the student, as in the contract"),
    ("rank", pa.int32(), "1 = best", Rules(low=1)),
    ("trial", pa.string(), "name of the trial"),
    ("values", pa.string(), "JSON: dotted key of the student -> value"),
    ("status", pa.string(), "how far it came", Rules(values=(*ENDED, "running"))),
    ("score", pa.float32(), "more is better: exact match, or the validation loss with its sign changed; null = none", NULL),
    ("loss", pa.float32(), "of its best weights, per target token", NATS),
    ("metric", pa.float32(), "their exact match, if it was measured", SHARE_OR_NULL),
    ("epochs", pa.float32(), "passes over the examples", COUNT),
    ("steps", pa.int32(), "optimizer steps", COUNT),
    ("tokens", pa.int64(), "target tokens learned", COUNT),
    ("seconds", pa.float32(), "of training", SECONDS),
    ("error", pa.string(), '"" = none', NULL),
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
