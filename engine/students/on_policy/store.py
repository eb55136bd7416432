"""The records of finished rounds, beside their checkpoints in the run's ledger."""

from engine.records.on_policy import RoundMetrics
from engine.storage.folder import Folder

ROUNDS = "on_policy_rounds"
"""Folder in a run's ledger; in it one for each student, and in that one for each recipe of its rounds."""
RECORD = "round.json"


def read(store: Folder) -> list[RoundMetrics]:
    """Return the rounds in `store` that are finished, in order."""
    found: list[RoundMetrics] = []
    while store.exists(f"round-{len(found) + 1}/{RECORD}"):
        found.append(RoundMetrics.model_validate_json(store.read(f"round-{len(found) + 1}/{RECORD}")))
    return found


def furthest(ledger: Folder, student: str) -> list[RoundMetrics]:
    """Return the finished rounds of `student` in a run's `ledger`; of several recipes those of the one that is furthest."""
    folder = ledger / f"{ROUNDS}/{student}"
    names = {path.partition("/")[0] for path in folder.files() if path.endswith(f"/{RECORD}")} if folder.exists() else set()
    return max((read(folder / name) for name in sorted(names)), key=len, default=[])
