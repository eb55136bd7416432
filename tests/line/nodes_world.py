"""A cluster whose nodes share no disk, a run that is submitted to it as a job, and nodes that are killed meanwhile.

The head and two worker nodes have a home and a temporary folder each; sources, models, ledger and run folder are behind the S3
stand-in. Each of the two teachers runs on one node only, by a resource that the other one lacks.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, chdir, suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import yaml

from engine.evaluation.evaluator import WARM_UP, Evaluator
from engine.grading.grader import Grader
from engine.runs.job import JobContext
from engine.storage.folder import Folder
from engine.teachers.chained import ChainedTeacher
from engine.teachers.route import Router, answered
from engine.teachers.teacher import TeacherSpec
from jobs import workspace
from jobs.pipeline import pipeline
from jobs.steps import candidates, reports
from jobs.steps.judging import grader_spec
from tests.line import dashboard as ports
from tests.line import kills_world as world
from tests.line import nodes_order as order
from tests.line.nodes_order import CPUS, HELD_OUT, STUDENT, TEACHERS, Size

WORK = {"candidates": "Teacher", "dataset": "", STUDENT: "RayTrainWorker", "reports": "Evaluator"}
"""Job -> what the title of a process says that works on it; "": any task."""
PATIENCE = 900.0  # seconds for what is awaited, on a busy machine


class Server(world.Server):
    """Counts apart what `reports` asks. After `trap`, requests to `left` of so many words wait until `gate` is set."""

    def __init__(self) -> None:
        self.caught, self.gate, self.word = threading.Event(), threading.Event(), ""
        super().__init__()
        self.bill |= {"reports": Counter(), "warm-up": Counter()}

    def count(self, request: dict[str, Any], key: str) -> None:
        if self._asks(request, HELD_OUT):
            self.bill["reports"][key] += 1
        else:
            self.bill["warm-up" if self._asks(request, WARM_UP) else request["model"]][key] += 1

    def trap(self, word: str) -> None:
        """Hold each request to `left` with `word` in it, from now on."""
        self.caught.clear()
        self.gate.clear()
        self.word = word

    def free(self) -> None:
        """Answer what is held."""
        self.word = ""
        self.gate.set()

    def hold(self, request: dict[str, Any]) -> None:
        if self.word and self._asks(request, "You are left") and self._asks(request, self.word):
            self.caught.set()
            self.gate.wait()
        super().hold(request)

    def _asks(self, request: dict[str, Any], word: str) -> bool:
        return request["model"] == "teacher" and word in str(request["messages"])


class Site:
    """The cluster, and what is behind the URL `store`."""

    def __init__(self, folder: Path, server: Server, store: str, size: Size) -> None:
        from ray.cluster_utils import Cluster

        self.folder, self.server, self.store, self.size = folder, server, store, size
        self.homes, self.nodes = dict[str, Path](), dict[str, Any]()
        self.kills, self.folders = Counter[str](), ExitStack()
        dashboard, agent = ports.free_port(), ports.free_port()
        quick = {"health_check_period_ms": 1000, "health_check_failure_threshold": 8}  # a dead node is noticed in seconds
        head = {"num_cpus": 0, "_system_config": quick, "env_vars": self._home("head"), "include_dashboard": True}
        head |= {"dashboard_port": dashboard, "dashboard_agent_listen_port": agent}
        with chdir(self.homes["head"]):  # which a node inherits
            self.cluster = Cluster(initialize_head=True, head_node_args=head)
        for name in TEACHERS:
            self.add(name)
        self._write()
        self.address = ports.wait_for(dashboard, agent)

    @property
    def run(self) -> Folder:
        """The run folder."""
        return Folder(f"{self.store}/run")

    def _home(self, who: str) -> dict[str, str]:
        """Make a home for a node or a process; return the variables that say so."""
        self.homes[who] = self.folder / who
        (self.homes[who] / "tmp").mkdir(parents=True)
        return {"HOME": str(self.homes[who]), "TMPDIR": str(self.homes[who] / "tmp")}

    def add(self, name: str) -> None:
        """Start a node that the teacher `name` runs on."""
        variables = self._home(f"node-{len(self.homes)}-{name}")
        # A node that shares Ray's folder with others unpacks the job's files anew, under the feet of their workers.
        of_ray = self.folders.enter_context(tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
        with chdir(variables["HOME"]):
            self.nodes[name] = self.cluster.add_node(num_cpus=CPUS, resources={name: 8}, env_vars=variables, temp_dir=of_ray)

    def end(self) -> None:
        """End the cluster."""
        self.cluster.shutdown()
        self.folders.close()

    @property
    def _order(self) -> Path:
        """The folder with contract and profiles, which is sent to the cluster."""
        return self.folder / "order"

    def _write(self) -> None:
        order.put(Folder(self.store), self.size, self.folder)
        self._order.mkdir()
        files = {**order.profiles(), "contract": order.contract(self.store, self.size, self.server.url)}
        for name, content in files.items():
            (self._order / f"{name}.yaml").write_text(yaml.safe_dump(content))

    def submit(self) -> subprocess.Popen[bytes]:
        """Submit the run as a job, and follow it."""
        words = ["submit", "contract.yaml", self.run.url, "--address", self.address, "--profile", "nodes.yaml"]
        return self.start("user", words)

    def start(self, who: str, words: list[str]) -> subprocess.Popen[bytes]:
        """Start `rayleigh WORDS` as a user with a home of their own."""
        environment = {
            **os.environ,
            **self._home(who),
            "RAY_TMPDIR": tempfile.gettempdir(),
        }  # a home's path is too long for sockets
        with (self.folder / f"{who}.log").open("wb") as log:
            command = [sys.executable, "-m", "jobs.cli", *words]
            return subprocess.Popen(command, cwd=self._order, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def output(self) -> str:
        """Return the end of what the commands and the job said."""
        logs = [*self.folder.glob("*.log"), *(log for home in self.homes.values() for log in home.glob("**/logs/*.log"))]
        return "\n".join(f"{log}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until `process` has succeeded."""
        assert process.wait(timeout=PATIENCE) == 0, self.output()

    def wait(self, process: subprocess.Popen[bytes], is_so: Callable[[], bool], what: str) -> None:
        """Wait for `is_so()` while `process` runs."""
        end = time.monotonic() + PATIENCE
        while not is_so():
            assert process.poll() is None, self.output()
            assert time.monotonic() < end, f"{what}\n{self.output()}"
            time.sleep(0.05)

    def is_done(self, job: str) -> bool:
        """Return whether the run has the artifact of `job`."""
        return self.run.exists(f"{job}/record.json")

    def kill(self, name: str, job: str) -> None:
        """Kill all processes of a node, as a power cut does; start another one in its place, with a home of its own."""
        for process in world.tree(self.nodes[name]):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.cluster.remove_node(self.nodes[name], allow_graceful=False)
        self.kills[job] += 1
        self.add(name)

    def teachers(self) -> dict[str, int]:
        """Return the teachers that each node runs now."""
        return {name: len(self.busy(name, "Teacher")) for name in TEACHERS}

    def busy(self, name: str, word: str) -> list[psutil.Process]:
        """Return the processes of a node that work on what `word` says."""
        return [each for each in world.tree(self.nodes[name]) if _works(each, word)]

    def again(self, folder: Path) -> Folder:
        """Make, on one machine, without kills and in another folder, what follows from the candidates; return that folder."""
        target = Folder(str(folder))
        for job in ("prompts", "candidates"):
            for name in (self.run / job).files():
                target.write(f"{job}/{name}", (self.run / job).read(name))
        self.server.begin(delay=0)
        words = ["run", "contract.yaml", str(folder), "--profile", "alone.yaml", "--until", self.size.again]
        self.finish(self.start("alone", words))
        return target

    def context(self, job: str, run: str) -> JobContext:
        """Return the context of a job in the run folder `run`, in this process."""
        contract, profile = (str(self._order / f"{name}.yaml") for name in ("contract", "alone"))
        work = workspace.create(contract, run, profile=profile, changes=[])
        return work.context(next(found for found in pipeline(work.contract) if found.name == job), log=print, progress=print)

    def candidates(self, prompts: pa.Table) -> pa.Table:
        """Return the candidates as one process makes them, without Ray and without kills."""
        context = self.context("candidates", str(self.folder / "process"))
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

    def predictions(self, holdout: pa.Table) -> dict[tuple[str, str], str]:
        """Return (teacher, prompt) -> answer, as one process asks for the holdout."""
        context, rows = self.context("reports", self.run.url), holdout.to_pylist()
        found = {}
        for target in reports.teachers(context):
            answers = Evaluator(target, context.profile.evaluator).evaluate(rows, 0).completions
            found |= {(target.name, row["prompt_id"]): answer.text for row, answer in zip(rows, answers, strict=True)}
        return found


def _works(process: psutil.Process, word: str) -> bool:
    title = world.title(process)
    return "ray::" in title and word in title and not any(idle in title for idle in ("IDLE", "Agent"))
