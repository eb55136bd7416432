"""The run of `threshold_runs` with pairs of preferences in its dataset."""

from pathlib import Path

from threshold_runs import threshold_run

from engine.records.record import Identity
from engine.rows import EXAMPLE, PREFERENCE, TABLES, from_rows
from engine.storage.artifact import ArtifactWriter, load_artifact
from jobs.workspace import Workspace


def pairs_run(folder: str, seeds: Path) -> Workspace:
    """Write the run into `folder`, with a pair for every other example."""
    work = threshold_run(folder, seeds, 0.3)
    old = load_artifact(work.folder / "dataset")
    assert old is not None
    pairs = [
        {
            **row, "pair_id": f"p{number}", "prompt": row["messages"], "chosen": _turn(row["target"]), "rejected": _turn("no"),
            "chosen_id": row["example_id"], "rejected_id": f"b{number}", "margin": None if number % 4 else 0.5, "reason": "wrong",
            "length_ratio": 1.0,
        }
        for number, row in enumerate(old.read("examples", EXAMPLE).to_pylist())
        if number % 2 == 0
    ]  # fmt: skip
    writer = ArtifactWriter(work.folder / "dataset", metrics=old.record.metrics)
    for name in old.record.tables:
        writer.put(name, old.read(name, TABLES[name]), TABLES[name])
    writer.put(
        "preferences", from_rows(({name: pair[name] for name in PREFERENCE.names} for pair in pairs), PREFERENCE), PREFERENCE
    )
    writer.finish(Identity("dataset", old.record.recipe, old.record.inputs, old.record.fingerprint), old.record.row_counts)
    return work


def _turn(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
