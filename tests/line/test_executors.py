"""`prompts` and `dataset` in threads and on Ray, with any number of workers: the same files, byte by byte."""

from collections.abc import Callable
from pathlib import Path

import data_world
import pytest
from data_world import candidate_rows, contract, mails, put_inputs, write_jsonl

from engine.contract.contract import Contract
from engine.contract.profile import Ray
from engine.curation import answers, decide_flow, pick_flow
from engine.dedup import plan
from engine.distributed import in_process

TEXTS = mails(60)
COPIES = [TEXTS[0].upper(), TEXTS[1] + " Thanks!", TEXTS[2] + " Thanks!"]
COPIED = {"threshold": 0.8, "ngram": 3}
PROMPTS = contract(
    prompts={
        "sources": [{"path": "one.jsonl", "licence": "CC0-1.0"}, {"path": "many/*.jsonl", "licence": "MIT"}],
        "holdout": {"path": "holdout.jsonl", "labels": "rule"},
        "redact": ["email"],
        "copies": COPIED,
        "shard_rows": 9,
    }
)
PICK = {"clusters": 4, "per_cluster": 5, "validation": 0.3}
DATASET = contract(curation={"minhash": COPIED, "semantic": {"threshold": 0.97}, "decontaminate": {"ngram": 8}, "pick": PICK})


def put_sources(folder: Path) -> None:
    (folder / "many").mkdir()
    write_jsonl(
        folder / "one.jsonl", [{"input": text} for text in [*TEXTS[:20], *COPIES, f"Write to jane@example.org. {TEXTS[20]}"]]
    )
    for number in range(7):
        write_jsonl(folder / "many" / f"{number}.jsonl", [{"input": text} for text in TEXTS[21 + number : 50 : 7]])
    write_jsonl(folder / "holdout.jsonl", [{"input": text, "reference": {"n": 1}} for text in [*TEXTS[50:], TEXTS[3]]])


def put_candidates(folder: Path) -> None:
    put_inputs(folder, candidate_rows([*COPIES, *TEXTS[:50]]), TEXTS[48:], shard_rows=11)


WORK: dict[str, tuple[Callable[[Path], None], Contract]] = {
    "prompts": (put_sources, PROMPTS),
    "dataset": (put_candidates, DATASET),
}


@pytest.mark.parametrize("job", WORK)
def test_threads_and_ray_write_the_same_files_for_any_number_of_workers(cluster, job, tmp_path, tmp_path_factory, monkeypatch):
    small = [(decide_flow, "SHARD_ROWS", 20), (answers, "SCAN_ROWS", 20), (answers, "PROMPTS_PER_PARTITION", 30)]
    small += [(plan, "PIECE_BYTES", 999), (pick_flow, "RANGE_ROWS", 15)]
    for module, name, size in small:  # several shards of the 50 prompts, blocks of their candidates, and pieces of each
        monkeypatch.setattr(module, name, size)
    put, order = WORK[job]
    models = str(tmp_path_factory.getbasetemp() / "models")
    found = {}
    for ray, workers in ((Ray(in_process_gib=0), 2), (Ray(address="none"), 1), (Ray(address="none"), 2), (Ray(address="none"), 4)):
        folder = tmp_path / f"{ray.address}-{workers}"
        folder.mkdir()
        put(folder)
        cpu = data_world.PROFILE.cpu.model_copy(update={"actors": workers})
        monkeypatch.setattr(data_world, "PROFILE", data_world.PROFILE.model_copy(update={"ray": ray, "cpu": cpu}))
        made = data_world.run(folder, job, order, models=models)
        found[folder.name] = {
            name: (table.digest, [shard.sha256 for shard in table.shards]) for name, table in made.record.tables.items()
        }
    assert in_process.threads() is None
    first, *others = found.values()
    assert len(first) > 2 and all(other == first for other in others), found
