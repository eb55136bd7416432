"""A cluster of several raylets, a server that counts the requests it answers, and a plan of kills."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pyarrow as pa
import yaml

from engine.grading.grader import Grader
from engine.rows import HOLDOUT, PROMPT, from_rows
from engine.runs.job import JobContext
from engine.runs.recipe import identify
from engine.storage.artifact import RowCounts
from engine.teachers.teacher import Teacher
from jobs import workspace
from jobs.pipeline import pipeline
from jobs.steps import candidates
from jobs.steps.judging import grader_spec
from tests.line.data_world import CONTRACT, WORDS, prompt_row

ROOT = Path(__file__).parents[2]
KINDS = ("driver", "teacher", "judge", "node")
ACTORS, BATCH, SAMPLES = 2, 10, 2
IN_FLIGHT = {"driver": ACTORS * BATCH * SAMPLES, "teacher": BATCH * SAMPLES, "judge": 0, "node": ACTORS * BATCH * SAMPLES}
"""Most answers that a kill of each kind can lose: those of the batches that its victims worked on."""
JUDGED = BATCH * SAMPLES  # answers that the judge scores at once
STUCK = 240  # seconds without a new answer that count as a hang


class Kill(NamedTuple):
    """What is killed, and after how many different requests for answers."""

    requests: int
    kind: str


def plan(kills: int, answers: int, seed: int) -> list[Kill]:
    """Return `kills` kills at random moments, equally many of each kind."""
    rng = random.Random(seed)
    kinds = [KINDS[number % len(KINDS)] for number in range(kills)]
    rng.shuffle(kinds)
    moments = sorted(rng.sample(range(answers // 20, answers - answers // 20), kills))
    return [Kill(*pair) for pair in zip(moments, kinds, strict=True)]


class Server(ThreadingHTTPServer):
    """Answers as teacher and as judge, `delay` seconds later, by the hash of the request. Every request counts as paid."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.delay = 0.0
        self.bill: dict[str, Counter[str]] = {"teacher": Counter(), "judge": Counter()}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def begin(self, *, delay: float) -> None:
        """Set all counts to zero."""
        self.delay = delay
        for counter in self.bill.values():
            counter.clear()

    def count(self, request: dict[str, Any], key: str) -> None:
        """Count a request whose hash is `key` as paid."""
        self.bill[request["model"]][key] += 1

    def hold(self, request: dict[str, Any]) -> None:
        """Wait before a request is answered."""
        time.sleep(self.delay)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: its clients are killed."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        request, hashed = json.loads(body), hashlib.sha256(body).digest()
        with self.server.lock:
            self.server.count(request, hashed.hex())
        self.server.hold(request)
        content = json.dumps(completion(request["model"], hashed)).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Print nothing."""


def completion(model: str, hashed: bytes) -> dict[str, Any]:
    """Return a teacher's answer, some of them cut off, or a judge's mark with varying probability."""
    top = [{"token": mark, "logprob": -1 - byte / 64} for mark, byte in zip("12345", hashed, strict=False)]
    text = f"answer {hashed[0] % 3}" if model == "teacher" else "5"
    choice = {
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop" if model == "judge" or hashed[1] > 12 else "length",
        "logprobs": {"content": [{"token": text, "logprob": -1 - hashed[2] / 64, "top_logprobs": top}]},
    }
    return {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}


class Site:
    """A head node without CPUs and two worker nodes; a contract; drivers that are started with it."""

    def __init__(self, folder: Path, server: Server, *, prompts: int) -> None:
        from ray.cluster_utils import Cluster

        self.folder, self.server, self.answers = folder, server, prompts * SAMPLES
        self.drivers: list[subprocess.Popen] = []
        quick = {"health_check_period_ms": 1000, "health_check_failure_threshold": 8}  # a dead node is noticed in seconds
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": quick})
        self.nodes = [self.cluster.add_node(num_cpus=4) for _ in range(2)]
        self._write()
        self.prompts = from_rows([prompt_row(text) for text in mails(prompts)], PROMPT)

    def _write(self) -> None:
        for name in ("seeds", "holdout"):
            (self.folder / f"{name}.jsonl").write_text("{}\n")  # the artifact `prompts` is written directly
        pool = {"cpus": 1, "batch": BATCH, "max_num_seqs": 4}
        profile = {"name": "kills", "ray": {"address": self.cluster.address}, "teacher": {**pool, "actors": ACTORS}, "judge": pool}
        (self.folder / "profile.yaml").write_text(yaml.safe_dump(profile))
        (self.folder / "contract.yaml").write_text(yaml.safe_dump(CONTRACT | self._sections()))

    def _sections(self) -> dict[str, Any]:
        def model(name: str) -> dict[str, Any]:
            return {"type": "endpoint", "url": self.server.url, "path": name}

        teacher = {"name": "t", "model": model("teacher"), "sampling": {"n": SAMPLES, "temperature": 0.7}}
        rubric = {"name": "j", "model": model("judge"), "system": "Judge.", "question": "{text} {answer}"}
        gold = [{"input": f"Mail {n}", "answer": str(n), "label": ("right", "wrong")[n % 2]} for n in range(8)]
        student = {"name": "s", "init": {"prune": {"source": "smollm2-135m-instruct", "layers": [0]}}}
        return {
            "teachers": {"mode": "judged", "models": [teacher]},
            "judges": {"rubrics": [rubric], "calibrate": {"gold": gold}},
            "students": [student],
        }

    def prepare(self, run: Path) -> None:
        """Write the finished artifact `prompts` into `run`."""
        context = self.context(run, "prompts")
        context.writer.put("prompts", self.prompts, PROMPT)
        context.writer.put("holdout", from_rows([], HOLDOUT), HOLDOUT)
        context.writer.finish(identify(context), RowCounts(len(self.prompts), {"prompts": len(self.prompts)}))

    def context(self, run: Path, job: str) -> JobContext:
        """Return the context of `job` in `run`."""
        contract, profile = (str(self.folder / name) for name in ("contract.yaml", "profile.yaml"))
        work = workspace.create(contract, str(run), profile=profile, changes=[])
        return work.context(next(found for found in pipeline(work.contract) if found.name == job), log=print, progress=print)

    def unbroken(self, run: Path) -> pa.Table:
        """Return the candidates as one process makes them, without Ray and without kills."""
        context = self.context(run, "candidates")
        [spec] = candidates._teacher_specs(context)
        teacher, grader = Teacher(spec), Grader(grader_spec(context))
        starts = range(0, len(self.prompts), BATCH)
        return pa.concat_tables([grader(teacher(self.prompts.slice(start, BATCH))) for start in starts])

    def start(self, run: Path) -> subprocess.Popen:
        """Start `rayleigh run` up to the candidates."""
        words = [sys.executable, "-m", "jobs.cli", "run", "contract.yaml", str(run), "--profile", "profile.yaml"]
        with (self.folder / f"{run.name}.log").open("a") as log:
            options = {"cwd": self.folder, "stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
            self.drivers.append(subprocess.Popen([*words, "--until", "candidates"], **options))
        return self.drivers[-1]

    def close(self) -> None:
        """Stop all drivers and the cluster."""
        for driver in self.drivers:
            driver.kill()
        self.cluster.shutdown()

    def finish(self, run: Path, driver: subprocess.Popen) -> None:
        """Wait until `driver` has ended, and check that it succeeded."""
        assert driver.wait(timeout=600) == 0, self.output(run)

    def output(self, run: Path) -> str:
        """Return the end of the output of the drivers of `run`."""
        logs = [self.folder / f"{run.name}.log", *sorted(run.glob("**/*.log"))]
        return "\n".join(f"{log}\n{log.read_text()[-3000:]}" for log in logs)

    def survive(self, run: Path, kills: list[Kill], rng: random.Random) -> None:
        """Run to the end, through all `kills`."""
        driver = self.start(run)
        for kill in kills:
            self._wait(run, driver, kill.requests)
            if kill.kind == "driver":
                os.kill(driver.pid, signal.SIGKILL)
                driver.wait()
                driver = self.start(run)
            elif kill.kind == "node":
                self._kill_node(rng.choice(self.nodes))
            else:
                self._kill_actor({"teacher": "Teacher", "judge": "Grader"}[kill.kind], rng)
        self.finish(run, driver)

    def _wait(self, run: Path, driver: subprocess.Popen, requests: int) -> None:
        """Wait until so many different answers have been requested."""
        before, deadline = -1, 0.0
        while (now := len(self.server.bill["teacher"])) < requests:
            if now > before:
                before, deadline = now, time.monotonic() + STUCK
            assert driver.poll() is None, self.output(run)
            assert time.monotonic() < deadline, f"no new answer in {STUCK} s\n{self.output(run)}"
            time.sleep(0.02)

    def _kill_actor(self, name: str, rng: random.Random) -> None:
        deadline = time.monotonic() + STUCK
        while not (actors := [process for node in self.nodes for process in tree(node) if name in title(process)]):
            assert time.monotonic() < deadline, f"no actor {name}"
            time.sleep(0.05)
        with suppress(psutil.NoSuchProcess):
            rng.choice(actors).kill()

    def _kill_node(self, node: Any) -> None:
        """Kill all processes of a node, as a power cut does; add another node."""
        for process in tree(node):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes.append(self.cluster.add_node(num_cpus=4))


def mails(count: int) -> list[str]:
    """Return `count` different texts."""
    rng = random.Random(7)
    return [f"Mail {number}: {' '.join(rng.choices(WORDS, k=12))}" for number in range(count)]


def tree(node: Any) -> list[psutil.Process]:
    """The raylet of `node` and all its descendants."""
    [raylet] = node.all_processes["raylet"]
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(raylet.process.pid)
        return [root, *root.children(recursive=True)]
    return []


def title(process: psutil.Process) -> str:
    """Return the title of a worker: `ray::` and the class of its actor."""
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return " ".join(process.cmdline())
    return ""
