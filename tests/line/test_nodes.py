"""Nodes that share no disk: each with a home and a working folder of its own; sources, run folder, ledger and a model behind the S3
stand-in; two teachers that are placed on different nodes; one node is killed. The rows are those of one process."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import psutil
import pyarrow as pa
import pytest
import yaml

from engine.grading.grader import Grader
from engine.inference.bundled import packaged_weights
from engine.rows import CANDIDATE, PROMPT
from engine.storage.artifact import Artifact, load_artifact
from engine.storage.folder import Folder
from engine.storage.shards import hex_digest, rows_digest
from engine.storage.sums import SUMS
from engine.teachers.chained import ChainedTeacher
from engine.teachers.route import Router, answered
from engine.teachers.teacher import TeacherSpec
from jobs import workspace
from jobs.pipeline import pipeline
from jobs.steps import candidates
from jobs.steps.judging import grader_spec
from tests.line import kills_world as world
from tests.line.data_world import CONTRACT

ENCODER = "all-minilm-l6-v2"
PROMPTS, KILL_AFTER = 80, 40
DELAY = 0.3  # seconds of an answer
NODES = ({"left": 8}, {"right": 8})  # resources of Ray: each teacher runs on one of them only
CPUS, OF_AN_ENCODER = 8, 5  # so that each node has one encoder
pytestmark = [
    pytest.mark.timeout(2400),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),  # pipes, sockets
]


class Outcome(NamedTuple):
    prompts: pa.Table
    record: Artifact
    bill: dict[str, Counter[str]]
    homes: dict[str, Path]
    """Who -> its home folder."""
    alone: pa.Table
    """The candidates as one process makes them."""


class Server(world.Server):
    """Holds the requests of the teacher `left`, after the first KILL_AFTER of all, until its node is dead."""

    def __init__(self) -> None:
        self.caught, self.gate = threading.Event(), threading.Event()
        super().__init__()

    def hold(self, request: dict[str, Any]) -> None:
        if not self.gate.is_set() and len(self.bill["teacher"]) > KILL_AFTER and "You are left" in str(request["messages"]):
            self.caught.set()
            self.gate.wait()
        super().hold(request)


class Site(world.Site):
    """A head without CPUs and two worker nodes, each with a home and a working folder of its own."""

    server: Server

    def __init__(self, folder: Path, server: Server, store: str) -> None:
        from ray.cluster_utils import Cluster

        self.folder, self.server, self.store, self.drivers, self.homes = folder, server, store, [], {}
        quick = {"health_check_period_ms": 1000, "health_check_failure_threshold": 8}
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": quick})
        self.nodes = [self._add(resources) for resources in NODES]
        self._write()

    def _add(self, resources: dict[str, int]) -> Any:
        home = self.home(f"node-{len(self.homes)}")
        here = Path.cwd()
        os.chdir(home)  # which the node inherits
        try:
            return self.cluster.add_node(num_cpus=CPUS, resources=resources, env_vars={"HOME": str(home)})
        finally:
            os.chdir(here)

    def home(self, who: str) -> Path:
        self.homes[who] = self.folder / who
        self.homes[who].mkdir(parents=True)
        return self.homes[who]

    def _write(self) -> None:
        mails = world.mails(PROMPTS)
        store, weights = Folder(self.store), packaged_weights(ENCODER)
        for name, rows in (("seeds", mails), ("holdout", ["Something else"])):
            lines = [json.dumps({"input": text, "reference": "x"}) for text in rows]
            store.write(f"{name}.jsonl", "\n".join(lines).encode())
        sums = []
        for path in sorted(path for path in weights.rglob("*") if path.is_file() and not path.name.startswith(".")):
            name = path.relative_to(weights).as_posix()
            store.fs.put_file(str(path), f"{store.path}/encoder/{name}")
            sums.append(f"{Folder(str(weights)).measure(name).sha256}  {name}")
        store.write(f"encoder/{SUMS}", "\n".join(sums).encode())
        pool = {"cpus": 1, "batch": world.BATCH, "max_num_seqs": 4}
        profile = {
            "name": "nodes",
            "ray": {"address": self.cluster.address},
            "teachers": {name: {**pool, "resources": {name: 1}} for name in ("left", "right")},
            "judge": pool,
            "embedder": {"actors": len(NODES), "cpus": OF_AN_ENCODER, "batch": world.BATCH},
            "cpu": {"actors": 2, "cpus": 0.5},
        }
        driver = self.home("driver")
        (driver / "profile.yaml").write_text(yaml.safe_dump(profile))
        (driver / "contract.yaml").write_text(yaml.safe_dump(CONTRACT | self._sections() | self._routed(mails)))

    def _routed(self, mails: list[str]) -> dict[str, Any]:
        model = {"type": "endpoint", "url": self.server.url, "path": "teacher"}
        teachers = [
            {"name": name, "model": model, "system": f"You are {name}.", "sampling": {"n": world.SAMPLES, "temperature": 0.7}}
            for name in ("left", "right")
        ]
        bank = [{"input": text, "to": ["left", "right"][number % 2]} for number, text in enumerate(mails[:6])]
        source = {"path": f"{self.store}/seeds.jsonl", "licence": "CC0-1.0"}
        return {
            "prompts": {"sources": [source], "holdout": {"path": f"{self.store}/holdout.jsonl", "labels": "rule"}},
            "teachers": {
                "mode": "experts",
                "models": teachers,
                "routes": [{"nearest": {"bank": bank, "model": f"{self.store}/encoder", "min_cosine": 0.0}}],
            },
            "curation": {"semantic": None},
        }

    def run(self, url: str) -> None:
        """Run up to the candidates, and kill a node in the middle."""
        words = [sys.executable, "-m", "jobs.cli", "run", "contract.yaml", url, "--profile", "profile.yaml"]
        driver = self.homes["driver"]
        with (self.folder / "log").open("w") as log:
            options = {"cwd": driver, "stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
            process = subprocess.Popen(
                [*words, "--until", "candidates"], env={**os.environ, "HOME": str(driver), "TMPDIR": str(driver)}, **options
            )
        self.drivers.append(process)
        self._wait(driver, process, KILL_AFTER)
        while not self.server.caught.wait(1):
            assert process.poll() is None, self.output(driver)
        for each in world.tree(self.nodes[0]):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.cluster.remove_node(self.nodes[0], allow_graceful=False)
        self.server.gate.set()
        self.nodes[0] = self._add(NODES[0])
        self.finish(driver, process)

    def output(self, run: Path) -> str:
        logs = [self.folder / "log", *run.glob("logs/*.log")]
        return "\n".join(f"{log}\n{log.read_text()[-3000:]}" for log in logs)

    def alone(self, prompts: pa.Table) -> pa.Table:
        """Return the candidates as one process makes them, without Ray and without kills."""
        contract, profile = (str(self.homes["driver"] / name) for name in ("contract.yaml", "profile.yaml"))
        work = workspace.create(contract, str(self.folder / "alone"), profile=profile, changes=[])
        job = next(found for found in pipeline(work.contract) if found.name == "candidates")
        context = work.context(job, log=print, progress=print)
        routing = candidates._routing(context)
        assert routing
        router, grader = Router(routing), Grader(grader_spec(context))
        specs = candidates._teacher_specs(context)
        teachers = [ChainedTeacher(spec) for spec in specs if isinstance(spec, TeacherSpec)]
        made = []
        for start in range(0, len(prompts), world.BATCH):
            rows = router(prompts.slice(start, world.BATCH))
            for teacher in teachers:
                rows = teacher(rows)
            made.append(grader(answered(rows)))
        return pa.concat_tables(made)


@pytest.fixture(scope="module")
def outcome(s3: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    folder = tmp_path_factory.mktemp("nodes")
    store = f"{s3}/{folder.name}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(world.ROOT), os.environ.get("PYTHONPATH")])))
        patch.setenv("FSSPEC_S3", json.dumps(fsspec.config.conf["s3"]))
        patch.delenv("RAYLEIGH_MODELS", raising=False)
        server = Server()
        site = Site(folder, server, store)
        try:
            server.begin(delay=DELAY)
            site.run(f"{store}/run")
            bill = {name: counts.copy() for name, counts in server.bill.items()}
            prompts = load_artifact(Folder(f"{store}/run/prompts"))
            found = load_artifact(Folder(f"{store}/run/candidates"))
            assert prompts and found
            rows = prompts.read("prompts", PROMPT).sort_by("prompt_id")
            server.begin(delay=0)
            homes = dict(site.homes)
            patch.setenv("HOME", str(site.home("alone")))
            yield Outcome(rows, found, bill, homes, site.alone(rows))
        finally:
            site.close()
            server.shutdown()


def test_rows_are_those_of_one_process(outcome: Outcome) -> None:
    assert outcome.record.table("candidates").digest == hex_digest(rows_digest(outcome.alone))  # every column
    rows = outcome.record.read("candidates", CANDIDATE, ["answer_id", "teacher"])
    ids = rows["answer_id"].to_pylist()
    assert len(ids) == len(set(ids)) == world.SAMPLES * len(outcome.prompts)
    assert set(rows["teacher"].to_pylist()) == {"left", "right"}


def test_only_what_was_in_flight_is_paid_twice(outcome: Outcome) -> None:
    teacher, judge = outcome.bill["teacher"], outcome.bill["judge"]
    assert len(teacher) == world.SAMPLES * len(outcome.prompts)
    print({name: (counts.total() - len(counts), len(counts)) for name, counts in outcome.bill.items()})  # paid twice, of so many
    assert 0 < teacher.total() - len(teacher) <= world.IN_FLIGHT["node"]
    assert judge and judge.total() - len(judge) <= world.JUDGED


def test_each_node_has_fetched_the_model_and_the_driver_has_not(outcome: Outcome) -> None:
    weights = {who: list(home.glob(".cache/rayleigh/weights/*/*.safetensors")) for who, home in outcome.homes.items()}
    assert [len(weights[f"node-{number}"]) for number in range(len(NODES))] == [1, 1]
    assert weights["driver"] == []
    sizes = {path.stat().st_size for found in weights.values() for path in found}
    assert sizes == {(packaged_weights(ENCODER) / "model.safetensors").stat().st_size}
