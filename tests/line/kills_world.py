"""A cluster of several raylets, a server that answers and keeps its bill, and who is killed when."""

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
from engine.runs.job import JobContext, recipe_head
from engine.storage.artifact import RowCounts
from engine.teachers.teacher import Teacher
from jobs import workspace
from jobs.pipeline import line
from jobs.steps import candidates
from jobs.steps.judging import grader_spec
from tests.line.data_world import CONTRACT, WORDS, prompt_row

ROOT = Path(__file__).parents[2]
KINDS = ("driver", "teacher", "judge", "node")
ACTORS, BATCH, SAMPLES = 2, 10, 2
IN_FLIGHT = {"driver": ACTORS * BATCH * SAMPLES, "teacher": BATCH * SAMPLES, "judge": 0, "node": ACTORS * BATCH * SAMPLES}
"""Answers that a kill of each kind can cost at most: those of the batches that its victims were at."""
MARKED = BATCH * SAMPLES  # answers that the judge marks at once
STUCK = 240  # seconds without a new answer after which something hangs


class Kill(NamedTuple):
    """When how many different answers had been asked for, what is killed."""

    asked: int
    kind: str


def plan(kills: int, answers: int, seed: int) -> list[Kill]:
    """Return `kills` kills at random moments, equally many of each kind."""
    rng = random.Random(seed)
    kinds = [KINDS[number % len(KINDS)] for number in range(kills)]
    rng.shuffle(kinds)
    moments = sorted(rng.sample(range(answers // 20, answers - answers // 20), kills))
    return [Kill(*one) for one in zip(moments, kinds, strict=True)]


class Server(ThreadingHTTPServer):
    """Answers as teacher and as judge by the hash of what it is asked, after `delay` seconds. What it begins is paid for."""

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
        """Open a new bill."""
        self.delay = delay
        for counter in self.bill.values():
            counter.clear()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: its clients are killed."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        asked, hashed = json.loads(body), hashlib.sha256(body).digest()
        with self.server.lock:
            self.server.bill[asked["model"]][hashed.hex()] += 1
        time.sleep(self.server.delay)
        content = json.dumps(completion(asked["model"], hashed)).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def completion(model: str, hashed: bytes) -> dict[str, Any]:
    """A teacher's answer, now and then cut off; or a judge's mark, surer or less sure of it."""
    top = [{"token": mark, "logprob": -1 - byte / 64} for mark, byte in zip("12345", hashed, strict=False)]
    text = f"answer {hashed[0] % 3}" if model == "teacher" else "5"
    choice = {
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop" if model == "judge" or hashed[1] > 12 else "length",
        "logprobs": {"content": [{"token": text, "logprob": -1 - hashed[2] / 64, "top_logprobs": top}]},
    }
    return {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}


class Site:
    """A head that only keeps the books and two nodes that work; a contract; drivers that are started in it."""

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
            (self.folder / f"{name}.jsonl").write_text("{}\n")  # what they would say stands in the artifact already
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
        """Put the finished prompts into `run`."""
        context = self.context(run, "prompts")
        context.writer.put("prompts", self.prompts, PROMPT)
        context.writer.put("holdout", from_rows([], HOLDOUT), HOLDOUT)
        context.writer.finish(recipe_head(context), RowCounts(len(self.prompts), {"prompts": len(self.prompts)}))

    def context(self, run: Path, job: str) -> JobContext:
        """Return the bench of `job` in `run`."""
        order, profile = (str(self.folder / name) for name in ("contract.yaml", "profile.yaml"))
        work = workspace.create(order, str(run), profile=profile, changes=[])
        return work.context(next(one for one in line(work.contract) if one.name == job), log=print, progress=print)

    def unbroken(self, run: Path) -> pa.Table:
        """The candidates as one process makes them, without Ray and without an end of anything."""
        context = self.context(run, "candidates")
        [spec] = candidates._teacher_specs(context)
        teacher, grader = Teacher(spec), Grader(grader_spec(context))
        starts = range(0, len(self.prompts), BATCH)
        return pa.concat_tables([grader(teacher(self.prompts.slice(start, BATCH))) for start in starts])

    def start(self, run: Path) -> subprocess.Popen:
        """Start `rayleigh run` up to the candidates."""
        words = [sys.executable, "-m", "jobs.cli", "run", "contract.yaml", str(run), "--profile", "profile.yaml"]
        with (self.folder / f"{run.name}.log").open("a") as log:
            told = {"cwd": self.folder, "stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
            self.drivers.append(subprocess.Popen([*words, "--until", "candidates"], **told))
        return self.drivers[-1]

    def close(self) -> None:
        """End all that was started here."""
        for driver in self.drivers:
            driver.kill()
        self.cluster.shutdown()

    def finish(self, run: Path, driver: subprocess.Popen) -> None:
        """Wait until `driver` has ended well."""
        assert driver.wait(timeout=600) == 0, self.said(run)

    def said(self, run: Path) -> str:
        """The end of what the drivers of `run` have said."""
        logs = [self.folder / f"{run.name}.log", *sorted(run.glob("**/*.log"))]
        return "\n".join(f"{log}\n{log.read_text()[-3000:]}" for log in logs)

    def survive(self, run: Path, kills: list[Kill], rng: random.Random) -> None:
        """Make `run` to its end, through all `kills`."""
        driver = self.start(run)
        for kill in kills:
            self._wait(run, driver, kill.asked)
            if kill.kind == "driver":
                os.kill(driver.pid, signal.SIGKILL)
                driver.wait()
                driver = self.start(run)
            elif kill.kind == "node":
                self._lose(rng.choice(self.nodes))
            else:
                self._kill_actor({"teacher": "Teacher", "judge": "Grader"}[kill.kind], rng)
        self.finish(run, driver)

    def _wait(self, run: Path, driver: subprocess.Popen, asked: int) -> None:
        """Wait until so many different answers have been asked for."""
        before, until = -1, 0.0
        while (now := len(self.server.bill["teacher"])) < asked:
            if now > before:
                before, until = now, time.monotonic() + STUCK
            assert driver.poll() is None, self.said(run)
            assert time.monotonic() < until, f"no new answer in {STUCK} s\n{self.said(run)}"
            time.sleep(0.02)

    def _kill_actor(self, name: str, rng: random.Random) -> None:
        until = time.monotonic() + STUCK
        while not (found := [one for node in self.nodes for one in tree(node) if name in title(one)]):
            assert time.monotonic() < until, f"no actor {name}"
            time.sleep(0.05)
        with suppress(psutil.NoSuchProcess):
            rng.choice(found).kill()

    def _lose(self, node: Any) -> None:
        """Kill all of a node at once, as when its power is cut; another takes its place."""
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
    """What a worker calls itself: `ray::` and the class of its actor."""
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return " ".join(process.cmdline())
    return ""
