"""`rayleigh bench view`: the server of `rayleigh view` over a run of many answers, asked over HTTP as a browser asks it.

Each round starts the command anew and, an idle second later, opens the address of the table as its first request, so that the first
page is that of a server that has read nothing yet. What was read of the disk stays in memory: a cold disk is not measured.

`--json` prints a `ViewBench`.
"""

import math
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import pyarrow as pa

from engine.records.base import Record
from engine.rows import CANDIDATE, DIFFICULTIES, LAYERS, POOLS, PROMPT, Row, content_id, from_rows
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from jobs import workspace
from jobs.bench.flow import FORM
from jobs.bench.flow import HERE as FLOW
from jobs.bench.watch import ROOT, put_artifact
from jobs.contracts.order_mail.generate import unseen
from jobs.terminal.console import columns
from jobs.view.found import runs_below

MAILS = 500  # different ones, made again and again with a reference number of their own
SAMPLES = 4  # answers to a prompt
SHARD = 50_000  # rows
TEACHERS = ("large", "small")
NEEDLE = "needle"  # in the text of a single prompt
NEXT = re.compile(r'rel="next" href="([^"]+)"')
ROW = re.compile(r'<th scope="row"><a href="([^"]+)"')
PROMPTED = re.compile(r'href="([^"]+/prompt/[^"]+)"')
IDLE = 1  # second between the address and the first request: a person takes longer
MOST_SECONDS = 120  # that a page may take before the benchmark gives up


class Asked(Record):
    """One kind of page."""

    what: str
    seconds: float
    """From the request to the last byte of the page, the median of the rounds."""
    cpu_seconds: float
    """Of all threads of the server for it, the median of the rounds."""
    slowest: float
    """`seconds` of the slowest round."""
    kib: float
    """Size of the page."""


class ViewBench(Record):
    """The result of the benchmark."""

    rows: int
    """Of the table."""
    mib: float
    """Size of its shards."""
    start_seconds: float
    """From the start of the command to its address, the median of the rounds."""
    pages: tuple[Asked, ...]
    """In the order in which they are asked for."""


class Taken(NamedTuple):
    """One measured request."""

    seconds: float
    cpu_seconds: float
    body: str


def bench(rows: int, rounds: int, work: str | None) -> ViewBench:
    """Measure `rounds` starts of the server on a run of `rows` answers, which is made below `work` if it is not there."""
    with tempfile.TemporaryDirectory(prefix="rayleigh-bench-") as scratch:
        root = Path(work or scratch).absolute()
        made = make_run(root / "runs" / "bench", rows)
        turns = [_round(root / "runs") for _ in range(rounds)]
    pages = [_asked(what, [pages[what] for _, pages in turns]) for what in turns[0][1]]
    start = statistics.median(seconds for seconds, _ in turns)
    return ViewBench(rows=rows, mib=round(made / 2**20, 1), start_seconds=round(start, 2), pages=tuple(pages))


def as_text(result: ViewBench) -> str:
    """Return a line per page."""
    rows = [[page.what, page.seconds, page.cpu_seconds, page.slowest, page.kib] for page in result.pages]
    head = ["page", "seconds", "CPU seconds", "slowest", "KiB"]
    about = f"{result.rows:,} rows in {result.mib} MiB; the server answers {result.start_seconds} s after its start"
    return f"{about}\n{columns(rows, head=head)}"


def make_run(folder: Path, rows: int) -> int:
    """Write a run with `rows` answers and their prompts, by the writers of the pipeline; return the bytes of the answers."""
    done = load_artifact(Folder(str(folder / "candidates"))) if folder.exists() else None
    if done is None or done.table("candidates").rows != rows:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for path in (FLOW / "flow.yaml", FORM):
            shutil.copy(path, folder.parent)
        (folder.parent / "seeds.jsonl").write_text('{"input": "Please send 3 blue kites."}\n')
        work = workspace.create(str(folder.parent / "flow.yaml"), str(folder), profile="laptop", changes=[])
        work.save()
        put_artifact(work, "prompts", (prompts for prompts, _ in make_rows(rows)), PROMPT, label="prompts")
        put_artifact(work, "candidates", (answers for _, answers in make_rows(rows)), CANDIDATE, label="train")
        done = load_artifact(work.folder / "candidates")
    assert done
    return done.table("candidates").bytes


def make_rows(rows: int) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield the prompts and the answers of each shard: mails with numbers of their own, ids in order as jobs write them."""
    draw, mails = random.Random(0), unseen(MAILS, series="bench view")
    ids = sorted(content_id("bench view", number) for number in range(math.ceil(rows / SAMPLES)))
    left = rows
    for start in range(0, len(ids), SHARD // SAMPLES):
        prompts = [
            _prompt(key, draw.choice(mails), start + at, draw) for at, key in enumerate(ids[start : start + SHARD // SAMPLES])
        ]
        answers = [_answer(prompt, sample, draw) for prompt in prompts for sample in range(SAMPLES)][:left]
        left -= len(answers)
        yield from_rows(prompts, PROMPT), from_rows(answers, CANDIDATE)


def _prompt(key: str, mail: Row, number: int, draw: random.Random) -> Row:
    text = f"{mail['input']}\n\nReference {key[:10]}{' ' + NEEDLE if number == 7 else ''}"
    return {
        "prompt_id": key, "task_unit": "order_fields", "messages": [{"role": "user", "content": text}], "text": text,
        "layer": draw.choice(LAYERS), "difficulty": draw.choice(DIFFICULTIES), "scenario": mail["scenario"], "language": "en",
        "source": "seeds.jsonl", "line": number + 1, "licence": "CC0-1.0", "redacted": [], "reference": mail["reference"],
    }  # fmt: skip


def _answer(prompt: Row, sample: int, draw: random.Random) -> Row:
    pool, confidence = draw.choice(POOLS), draw.random()
    failed = [] if pool == "train" else ["ungrounded"]
    check = {"check": "grounded", "passed": not failed, "tag": failed[0] if failed else "", "detail": "quantity" if failed else ""}
    return {
        **prompt, "route": "", "answer_id": content_id(prompt["prompt_id"], sample), "teacher": TEACHERS[sample % len(TEACHERS)],
        "sample": sample // len(TEACHERS), "seed": draw.getrandbits(31), "reasoning": "", "answer": prompt["reference"],
        "finish_reason": "stop", "tokens_in": draw.randint(300, 500), "tokens_out": draw.randint(20, 40),
        "logprob": -9 * draw.random(), "seconds": draw.random(), "error": "", "trajectory": [],
        "checks": [{"check": "json_schema", "passed": True, "tag": "", "detail": ""}, check], "agreement": draw.choice((0.5, 1.0)),
        "judge": "evidence", "score": None, "confidence": confidence, "dimension_scores": [], "judge_decides": True, "pool": pool,
        "reasons": failed, "relation": "", "confidence_tier": int(confidence < 0.5), "parents": [], "density": draw.random(),
    }  # fmt: skip


def _round(root: Path) -> tuple[float, dict[str, Taken]]:
    """Return the seconds that the server takes to start, and each page, by what it shows."""
    [run] = [run for run in runs_below(Folder(str(root))) if run.name == "bench"]
    started = time.perf_counter()
    with served(root) as (address, server), Client(address, server) as client:
        seconds = time.perf_counter() - started
        time.sleep(IDLE)
        table = f"run/{run.key}/table/candidates"
        pages = {"first page, first request": client.get(table)}
        first = pages["first page, again"] = client.get(table)
        second = pages["next page"] = client.follow(NEXT, first)
        pages["third page"] = client.follow(NEXT, second)
        top = pages["by confidence, downwards"] = client.get(f"{table}?sort=confidence&down=1")
        pages["its next page"] = client.follow(NEXT, top)
        pages["by answer_id"] = client.get(f"{table}?sort=answer_id")
        pages["pool hard, confidence from 0.9"] = client.get(f"{table}?is.pool=hard&from.confidence=0.9")
        pages["the same, by tokens_out"] = client.get(f"{table}?is.pool=hard&from.confidence=0.9&sort=tokens_out")
        pages["search of a word in many rows"] = client.get(f"{table}?q=order")
        found = pages["search of a word in one prompt"] = client.get(f"{table}?q={NEEDLE}")
        pages["histogram of pool"] = client.get(f"{table}?histogram=pool")
        pages["histogram of confidence"] = client.get(f"{table}?histogram=confidence")
        pages["row by its id"] = client.follow(ROW, found)
        pages["another row by its id"] = client.follow(ROW, first)
        pages["all answers to a prompt"] = client.follow(PROMPTED, found)
        pages["the run"] = client.get(f"run/{run.key}")
        pages["table of runs"] = client.get("")
    return seconds, pages


@contextmanager
def served(root: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Start `rayleigh view` on `root`; yield its address and its process, and end it."""
    words = [sys.executable, "-m", "jobs.cli", "view", str(root)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            address = process.stdout.readline().strip()
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()


class Client:
    """Asks for pages one after the other, over one connection, and measures each."""

    def __init__(self, address: str, server: psutil.Process) -> None:
        self.address, self.server = address, server
        self.http = httpx.Client(base_url=httpx.URL(address).copy_with(path="/"), timeout=MOST_SECONDS)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.http.close()

    def get(self, path: str) -> Taken:
        """Return the page at `path`, relative to the address of the server, or absolute.

        Raises:
            HTTPStatusError: the server does not show it.
        """
        target = path if path.startswith("/") else httpx.URL(self.address).path + path
        before, started = self._cpu(), time.perf_counter()
        answer = self.http.get(target)
        seconds = time.perf_counter() - started
        answer.raise_for_status()
        return Taken(seconds, self._cpu() - before, answer.text)

    def follow(self, link: re.Pattern[str], page: Taken) -> Taken:
        """Return the page to which the first `link` of `page` leads."""
        found = link.search(page.body)
        assert found, f"found no {link.pattern} on the page"
        return self.get(unescape(found[1]))

    def _cpu(self) -> float:
        times = self.server.cpu_times()
        return times.user + times.system


def _asked(what: str, taken: Sequence[Taken]) -> Asked:
    seconds = [each.seconds for each in taken]
    return Asked(
        what=what,
        seconds=round(statistics.median(seconds), 3),
        cpu_seconds=round(statistics.median(each.cpu_seconds for each in taken), 3),
        slowest=round(max(seconds), 3),
        kib=round(len(taken[-1].body) / 1024, 1),
    )
