"""Worker nodes are killed in the midst of `dataset`, of a training and of `reports`: the driver goes on by itself, and the
artifacts are those of a run without kills. Nodes share no disk; the run folder is behind the S3 stand-in."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import psutil
import pyarrow as pa
import pytest
import yaml

from engine.rows import EXAMPLE, PICKED, PREDICTION, STEP
from engine.storage.artifact import Artifact, load_artifact
from engine.storage.folder import Folder
from tests.line import kills_world as world

ROOT = Path(__file__).parents[2]
CONTRACT = str(ROOT / "tests/line/tiny.yaml")
PLAN = {"dataset": 4, "students": 8, "reports": 2}
"""Job -> how often a node is killed in it, at most."""
WORK = {"dataset": "", "students": "RayTrainWorker", "reports": "Evaluator"}
"""Job -> what the title of a process says that works on it; "": any task."""
STEPS, FURTHER = 120, 10  # steps of the training, and how many it makes between two kills
PATIENCE = 300.0  # seconds for what is awaited
pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(3600),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),  # pipes, sockets
]


class Site:
    """A head without CPUs and two worker nodes; everybody has a home and a working folder of its own."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.folder, self.homes = folder, 0
        quick = {"health_check_period_ms": 1000, "health_check_failure_threshold": 8}  # a dead node is noticed in seconds
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": quick})
        self.nodes = [self._add() for _ in range(2)]
        pool = {"cpus": 1, "batch": 16, "kv_cache_gib": 0.5, "max_num_seqs": 16}
        profile = {
            "name": "nodes",
            "ray": {"address": self.cluster.address, "in_process_gib": 0},
            **{name: pool for name in ("teacher", "judge", "evaluator")},
            "cpu": {"actors": 2, "cpus": 0.5},
        }
        (folder / "profile.yaml").write_text(yaml.safe_dump(profile))

    def _home(self) -> Path:
        home = self.folder / f"home-{self.homes}"
        home.mkdir()
        self.homes += 1
        return home

    def _add(self) -> Any:
        home, here = self._home(), Path.cwd()
        os.chdir(home)  # which the node inherits
        try:
            return self.cluster.add_node(num_cpus=6, env_vars={"HOME": str(home)})
        finally:
            os.chdir(here)

    def start(self, url: str, until: str) -> subprocess.Popen[bytes]:
        """Run the contract in the folder `url` up to the job `until`."""
        words = [sys.executable, "-m", "jobs.cli", "run", CONTRACT, url, "--until", until]
        words += ["--profile", str(self.folder / "profile.yaml")]
        words += [f"--set=students.0.max_steps={STEPS}", "--set=students.0.epochs=40"]
        home = self._home()
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(words, env={**os.environ, "HOME": str(home)}, cwd=home, stdout=log, stderr=subprocess.STDOUT)

    def finish(self, driver: subprocess.Popen[bytes]) -> None:
        """Wait until `driver` has succeeded."""
        assert driver.wait(timeout=900) == 0, self.output

    @property
    def output(self) -> str:
        """The end of what the drivers said."""
        return (self.folder / "log").read_text()[-6000:]

    def kill(self, driver: subprocess.Popen[bytes], work: str, rng: random.Random) -> bool:
        """Kill a node where a process with `work` in its title works; return False if the driver ends before there is one."""
        end = time.monotonic() + PATIENCE
        busy = list[Any]()
        while not busy:
            if driver.poll() is not None:
                return False
            busy = [node for node in self.nodes if any(_works(each, work) for each in world.tree(node))]
            assert time.monotonic() < end, f"nothing works on {work}\n{self.output}"
            time.sleep(0.05)
        node = rng.choice(busy)
        for process in world.tree(node):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes.append(self._add())
        return True


def _works(process: psutil.Process, word: str) -> bool:
    title = world.title(process)
    return "ray::" in title and word in title and not any(idle in title for idle in ("IDLE", "Agent"))


class Runs:
    """A run that nothing disturbed, and one in which nodes were killed."""

    def __init__(self, site: Site, unbroken: str, broken: str) -> None:
        self.site, self.unbroken, self.broken = site, unbroken, broken
        self.kills = dict.fromkeys(PLAN, 0)

    def make(self) -> None:
        """Make both; the broken one begins with the candidates of the other."""
        self.site.finish(self.site.start(self.unbroken, "candidates"))
        source, target = Folder(self.unbroken), Folder(self.broken)
        for name in source.files():
            target.write(name, source.read(name))
        self.site.finish(self.site.start(self.unbroken, "reports"))
        rng = random.Random(3)
        for job, most in PLAN.items():
            driver = self.site.start(self.broken, "students/xs" if job == "students" else job)
            try:
                while self.kills[job] < most and self.site.kill(driver, WORK[job], rng):
                    self.kills[job] += 1
                    self._wait(driver, rng, self._step() + FURTHER if job == "students" else None)
                self.site.finish(driver)
            finally:
                driver.kill()

    def _step(self) -> int:
        """Return the step that the training of the broken run has reached."""
        run = Folder(self.broken)
        found = [name for name in run.files() if name.endswith("/snapshot.json")]  # not the one of Ray Train
        return max((json.loads(run.read(name))["step"] for name in found), default=0)

    def _wait(self, driver: subprocess.Popen[bytes], rng: random.Random, step: int | None) -> None:
        """Wait for some seconds, or until the training is at `step`: one whose nodes die before it gets further is given up."""
        end = time.monotonic() + (rng.uniform(2, 12) if step is None else PATIENCE)
        while time.monotonic() < end and driver.poll() is None and (step is None or self._step() < step):
            time.sleep(0.5)

    def both(self, job: str) -> tuple[Artifact, Artifact]:
        """Return the artifact of `job` in each."""
        found = [load_artifact(Folder(url) / job) for url in (self.unbroken, self.broken)]
        assert found[0] and found[1]
        return found[0], found[1]


@pytest.fixture(scope="module")
def runs(s3: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("nodes-jobs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
        patch.setenv("FSSPEC_S3", json.dumps(fsspec.config.conf["s3"]))
        site = Site(folder)
        try:
            made = Runs(site, f"{s3}/{folder.name}/unbroken", f"{s3}/{folder.name}/broken")
            made.make()
            print(made.kills)
            yield made
        finally:
            site.cluster.shutdown()


def rows(artifact: Artifact, name: str, schema: pa.Schema, *, but: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    return artifact.read(name, schema, [column for column in schema.names if column not in but]).to_pylist()


def test_nodes_were_killed_in_each_job(runs: Runs) -> None:
    assert all(runs.kills.values()), runs.kills


def test_the_dataset_is_the_same(runs: Runs) -> None:
    unbroken, broken = runs.both("dataset")
    for name, schema in (("examples", EXAMPLE), ("picked", PICKED)):
        assert rows(broken, name, schema) == rows(unbroken, name, schema) != []


def test_the_training_has_the_same_losses_and_weights(runs: Runs) -> None:
    unbroken, broken = runs.both("students/xs")
    assert rows(broken, "steps", STEP, but=("seconds",)) == rows(unbroken, "steps", STEP, but=("seconds",))
    weights = [each.folder.read("model/model.safetensors") for each in (unbroken, broken)]
    assert weights[0] == weights[1]


def test_the_predictions_are_the_same(runs: Runs) -> None:
    unbroken, broken = runs.both("reports")
    assert rows(broken, "predictions", PREDICTION, but=("seconds",)) == rows(unbroken, "predictions", PREDICTION, but=("seconds",))
