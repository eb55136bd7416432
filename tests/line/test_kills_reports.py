"""kill -9 of `reports` at ten random moments: the report is that of an unbroken run, and only a batch in flight is asked twice.

The teacher is a server, which counts its requests; each child is a process of its own with a cluster of its own.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract.contract import Contract
from engine.contract.profile import Profile
from engine.records.record import Identity
from engine.rows import CANDIDATE, EXAMPLE, HOLDOUT, PICKED, PREDICTION, PROMPT, content_id, from_rows
from engine.runs.job import Job, JobContext, run_job
from engine.storage.artifact import Artifact, ArtifactWriter, RowCounts, load_artifact
from engine.storage.folder import Folder
from jobs.places import models_home
from tests.line import kills_world as world

KILLED = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # pipes, sockets
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(2400), KILLED]
KILLS, ROWS, TIMED, BATCH, SECONDS = 10, 160, 20, 8, 0.1
MEASURED = {
    "latency",
    "tokens_per_second",
    "memory_mib",
    "cost",
    "created",
    "worth",
    "findings",
    "run",
    "cascade",
}  # time, and what follows


def contract(url: str) -> Contract:
    """Return a contract whose teacher is the server, with two baselines."""
    unit = {"name": "echo", "kind": "rewrite", "instruction": "Answer.", "output": {}}
    model = {"type": "endpoint", "url": url, "path": "teacher"}
    return Contract.model_validate(
        {
            "name": "kills",
            "specialist": {"goal": "Answer.", "task_units": [unit]},
            "prompts": {"sources": [{"path": "t", "licence": "CC0-1.0"}], "holdout": {"path": "h", "labels": "rule"}},
            "teachers": {"mode": "direct", "models": [{"name": "t", "model": model}]},
            "judges": {},
            "students": [{"name": "s", "init": {"prune": {"source": "t", "layers": [0]}}}],
            "evaluation": {"baselines": [{"type": "nearest"}], "bootstrap": 100, "latency_prompts": TIMED},
            "gate": {"exact_match": 0.5},
        }
    )


def prepare(run: Folder) -> None:
    """Write the artifacts that reports read. No student was trained, which the report says."""
    texts = world.mails(ROWS)
    rows = [
        {
            "prompt_id": content_id(number),
            "task_unit": "echo",
            "messages": [{"role": "user", "content": text}],
            "text": text,
            "reference": f"answer {number % 3}",
            "scenario": f"scenario {number % 40}",
        }
        for number, text in enumerate(texts)
    ]
    user = {"role": "user", "content": "x"}
    tables = {
        "prompts": {"prompts": PROMPT.empty_table(), "holdout": from_rows(rows, HOLDOUT)},
        "candidates": {"candidates": CANDIDATE.empty_table()},
        "dataset": {
            "examples": from_rows([{"example_id": "e", "messages": [user], "final": "y", "split": "train"}], EXAMPLE),
            "picked": PICKED.empty_table(),
        },
    }
    for name, of_artifact in tables.items():
        writer = ArtifactWriter(run / name)
        for table, content in of_artifact.items():
            writer.put(table, content, content.schema)
        writer.finish(Identity(name, {}, {}, content_id(name)), RowCounts(0, {}))


def report(folder: str, url: str) -> None:
    """Run the job `reports` on a cluster of its own."""
    from engine.distributed.session import configure_data, start

    start(num_cpus=4, object_store_memory=100 << 20, log_to_driver=False)
    configure_data()
    needs, reads = ("prompts", "candidates", "dataset"), ("specialist", "evaluation")
    job = Job("reports", needs=needs, reads=reads, run="jobs.steps.reports:run")
    profile = Profile.model_validate({"name": "kills", "evaluator": {"actors": 2, "batch": BATCH, "max_num_seqs": 4}})
    run = Folder(f"{folder}/runs/run")
    run_job(JobContext(job, contract(url), profile, folder, models_home(), run, ArtifactWriter(run / job.name)))


def child(folder: Path, url: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "tests.line.test_kills_reports", str(folder), url]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(words, cwd=world.ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def finish(folder: Path, url: str) -> Artifact:
    """Run to the end; return the report."""
    assert child(folder, url).wait(timeout=600) == 0, (folder / "log").read_text()[-3000:]
    artifact = load_artifact(Folder(f"{folder}/runs/run/reports"))
    assert artifact
    return artifact


def kill_at(folder: Path, server: world.Server, requests: int) -> None:
    """Start the job, and kill -9 it as soon as the server has answered so many different prompts."""
    process = child(folder, server.url)
    deadline = time.monotonic() + 300
    while len(server.bill["teacher"]) < requests:
        assert process.poll() is None, (folder / "log").read_text()[-3000:]
        assert time.monotonic() < deadline, f"not {requests} answers in 300 s"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def server() -> Iterator[world.Server]:
    made = world.Server()
    yield made
    made.shutdown()


def compared(artifact: Artifact) -> tuple[list[dict[str, Any]], Any]:
    """Return the predictions without their times, and the report without what is measured in time."""
    rows = artifact.read("predictions", PREDICTION).drop_columns(["seconds"]).to_pylist()
    return rows, json.loads(artifact.folder.read("report.json"), object_hook=_timeless)


def _timeless(section: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key not in MEASURED}


def test_reports_killed_ten_times_ask_at_most_a_batch_again(tmp_path: Path, server: world.Server) -> None:
    found = {}
    for name in ("unbroken", "broken"):
        prepare(Folder(f"{tmp_path}/{name}/runs/run"))
        server.begin(delay=SECONDS)
        if name == "broken":
            for requests in sorted(random.Random(5).sample(range(1, ROWS - BATCH), KILLS)):
                kill_at(tmp_path / name, server, requests)
        found[name] = compared(finish(tmp_path / name, server.url))
    assert found["broken"] == found["unbroken"]
    bill = server.bill["teacher"]
    twice = bill.total() - len(bill)
    print(json.dumps({"kills": KILLS, "answers": len(bill), "asked": bill.total(), "asked twice": twice}))
    assert len(bill) >= ROWS and twice <= KILLS * BATCH


if __name__ == "__main__":
    report(*sys.argv[1:])
