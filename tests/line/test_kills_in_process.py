"""kill -9 of `prompts`, `dataset` and `rayleigh dedup` in threads of one process, at random moments: nothing half-written is taken
for whole, and going on gives what an unbroken run gives.

The processes are forks of one that has imported everything, so that the moments lie in the work and not in the imports.
"""

import hashlib
import json
import multiprocessing
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import data_world
import pytest
from data_world import candidate_rows, contract, mails, put_inputs, run, write_jsonl

from engine.contract.profile import Ray
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from jobs.commands import dedup
from jobs.commands.dedup import SIDE, Options
from jobs.steps import dataset, prompts  # noqa: F401

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(2400)]

KILLS = 20
TEXTS = mails(2_000)
COPIES = [text.upper() for text in TEXTS[::9]] + [f"{text} Thanks!" for text in TEXTS[::7]]
HERE = data_world.PROFILE.model_copy(update={"ray": Ray(address="none")})
COPIED = {"threshold": 0.8, "ngram": 3}
PROMPTS = contract(
    prompts={
        "sources": [{"path": "seeds.jsonl", "licence": "CC0-1.0"}],
        "holdout": {"path": "holdout.jsonl", "labels": "rule"},
        "redact": ["email"],
        "copies": COPIED,
        "shard_rows": 200,
    }
)
DATASET = contract(curation={"minhash": COPIED, "semantic": None, "pick": {}, "decontaminate": {"ngram": 8}})


def put_sources(folder: Path) -> None:
    """Write what `prompts` reads."""
    write_jsonl(folder / "seeds.jsonl", [{"input": text} for text in [*TEXTS[20:], *COPIES]])
    write_jsonl(folder / "holdout.jsonl", [{"input": text, "reference": {"n": 1}} for text in TEXTS[:20]])


def put_candidates(folder: Path) -> None:
    """Write the artifacts that `dataset` reads."""
    put_inputs(folder, candidate_rows([*TEXTS[20:], *COPIES]), TEXTS[:20], shard_rows=500)


def put_corpus(folder: Path) -> None:
    """Write what `rayleigh dedup` reads."""
    write_jsonl(folder / "in.jsonl", [{"id": str(number), "text": text} for number, text in enumerate(2 * [*TEXTS, *COPIES])])
    (folder / "profile.yaml").write_text(json.dumps(HERE.model_dump(mode="json", exclude_none=True)))


def make_prompts(folder: Path) -> None:
    data_world.PROFILE = HERE
    run(folder, "prompts", PROMPTS)


def make_dataset(folder: Path) -> None:
    data_world.PROFILE = HERE
    run(folder, "dataset", DATASET)


def make_dedup(folder: Path) -> None:
    dedup.dedup(str(folder / "in.jsonl"), str(folder / "out"), Options(), profile=str(folder / "profile.yaml"))


def artifact_files(folder: Path, job: str) -> dict[str, str]:
    """Return the tables of the artifact of `job` with the hash of each shard; {} if none is finished."""
    found = load_artifact(Folder(str(folder / "run" / job)))
    if found is None:
        return {}
    tables = {name: [shard.path for shard in table.shards] for name, table in found.record.tables.items()}
    return hashes([folder / "run" / job / name / path for name, paths in tables.items() for path in paths])


def dedup_files(folder: Path) -> dict[str, str]:
    """Return the files of the output and of the tables beside it with their hashes; {} if there is no output."""
    out, beside = folder / "out", folder / SIDE / "out"
    return hashes([*out.rglob("*.parquet"), *beside.rglob("*.parquet")]) if out.exists() else {}


def hashes(paths: list[Path]) -> dict[str, str]:
    return {f"{path.parent.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}


class Work(NamedTuple):
    """One of the works that are killed."""

    put: Callable[[Path], None]
    make: Callable[[Path], None]
    files: Callable[[Path], dict[str, str]]
    outputs: tuple[str, ...]
    """What is removed before it is made again."""

    def remove(self, folder: Path) -> None:
        for output in self.outputs:
            shutil.rmtree(folder / output, ignore_errors=True)


WORKS = {
    "prompts": Work(put_sources, make_prompts, lambda folder: artifact_files(folder, "prompts"), ("run/prompts",)),
    "dataset": Work(put_candidates, make_dataset, lambda folder: artifact_files(folder, "dataset"), ("run/dataset",)),
    "dedup": Work(put_corpus, make_dedup, dedup_files, ("out", f"{SIDE}/out")),
}


@pytest.fixture(scope="module")
def start() -> Callable[[Callable[[Path], None], Path], Any]:
    """Return what starts a function with a folder in a fork of a process that has imported this file."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload([__name__])

    def begin(make: Callable[[Path], None], folder: Path) -> Any:
        process = forks.Process(target=make, args=(folder,))
        process.start()
        return process

    return begin


def unbroken_run(start: Callable[[Callable[[Path], None], Path], Any], work: Work, folder: Path) -> float:
    """Do the work and return its seconds."""
    work.remove(folder)
    began = time.monotonic()
    process = start(work.make, folder)
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - began


@pytest.mark.parametrize("name", WORKS)
def test_work_that_is_killed_again_and_again_gives_what_an_unbroken_run_gives(name, start, tmp_path):
    work, moments, killed = WORKS[name], random.Random(name), 0
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    for folder in (unbroken, broken):
        folder.mkdir()
        work.put(folder)
    unbroken_run(start, work, unbroken)  # compiles, or reads what was compiled
    seconds, expected = unbroken_run(start, work, unbroken), work.files(unbroken)
    assert len(expected) > 1
    for _ in range(10 * KILLS):
        began = time.monotonic()
        process = start(work.make, broken)
        process.join(moments.uniform(0, seconds))
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if process.exitcode == 0:  # the moment came too late
            seconds = min(seconds, time.monotonic() - began)
        killed += process.exitcode == -signal.SIGKILL
        if found := work.files(broken):
            assert found == expected
            work.remove(broken)
        if killed == KILLS:
            break
    assert killed == KILLS
    process = start(work.make, broken)
    process.join()
    assert process.exitcode == 0 and work.files(broken) == expected
