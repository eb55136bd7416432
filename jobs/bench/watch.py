"""Runs of the command on given prompts, and what all their processes take: time, cores, memory. Seen from outside, now and then."""

import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pyarrow as pa

from engine.rows import PROMPT
from engine.runs.recipe import identify
from engine.storage.artifact import RowCounts
from engine.storage.shards import hex_digest, rows_digest, table_of, write_shard
from jobs.pipeline import line
from jobs.workspace import Workspace

ROOT = Path(__file__).parents[2]
EVERY = 0.25  # seconds between two looks
STAGES = {"Teacher": "teacher", "Grader": "judge", "_save": "write", "_load": "read"}


class Usage(NamedTuple):
    """What a command took."""

    seconds: float
    cpu_seconds: dict[str, float]
    """Kind of process (driver, teacher, judge, read, write, ray) -> seconds of a core."""
    peak_mib: dict[str, float]
    """Kind of process -> the most memory that one of it held: resident, without Ray's shared object store."""
    together_mib: float
    """The most that all held at the same time, what they share counted once."""


def put_prompts(work: Workspace, pieces: Iterable[pa.Table]) -> None:
    """Leave `pieces`, tables of PROMPT, as the finished artifact of the job `prompts`."""
    context = work.context(line(work.contract)[0], log=print, progress=print)
    shards, total = [], 0
    for piece in pieces:
        shards.append(write_shard(context.writer.folder / "prompts", piece, PROMPT))
        total += rows_digest(piece)
    table = context.writer.tables["prompts"] = table_of(shards, hex_digest(total))
    context.writer.finish(identify(context), RowCounts(table.rows, {"prompts": table.rows}))


def run_candidates(contract: Path, run: Path, *, profile: str, changes: Sequence[str] = ()) -> Usage:
    """Run the line up to the candidates by the command, in processes of its own."""
    words = [sys.executable, "-m", "jobs.cli", "run", str(contract), str(run), "--profile", profile, "--until", "candidates"]
    for change in changes:
        words += ["--set", change]
    return watch(words, cwd=ROOT, log=run.with_suffix(".log"))


def watch(words: Sequence[str], *, cwd: Path, log: Path) -> Usage:
    """Run the command `words` to its end.

    Raises:
        CalledProcessError: it failed; `log` says of what.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    peaks: defaultdict[str, float] = defaultdict(float)
    spent: dict[int, float] = {}
    together = 0.0
    started = time.monotonic()
    with log.open("ab") as out, subprocess.Popen(words, cwd=cwd, stdout=out, stderr=subprocess.STDOUT) as driver:
        while driver.poll() is None:
            family = _family(driver.pid)
            together = max(together, sum(_proportional_mib(process.pid) for process in family))
            for process in family:
                with suppress(psutil.Error, OSError):
                    kind = "driver" if process.pid == driver.pid else _kind(process)
                    times = process.cpu_times()
                    seconds[kind] += times.user + times.system - spent.get(process.pid, 0.0)
                    spent[process.pid] = times.user + times.system
                    peaks[kind] = max(peaks[kind], _mib(process.pid))
            time.sleep(EVERY)
    if driver.returncode:
        raise subprocess.CalledProcessError(driver.returncode, list(words), output=log.read_bytes()[-2000:])
    rounded = {kind: round(value, 1) for kind, value in sorted(seconds.items())}
    peak = {kind: float(round(value)) for kind, value in sorted(peaks.items())}
    return Usage(round(time.monotonic() - started, 2), rounded, peak, round(together))


def _family(pid: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def _kind(process: psutil.Process) -> str:
    """A worker of Ray calls itself `ray::` and what it is at."""
    title = " ".join(process.cmdline())
    if not title.startswith("ray::"):
        return "ray"
    return next((kind for name, kind in STAGES.items() if name in title), "ray")


def _mib(pid: int) -> float:
    held = re.findall(r"^Rss(?:Anon|File):\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return sum(map(int, held)) / 1024


def _proportional_mib(pid: int) -> float:
    """Memory of a process, of which it counts its part where others share it."""
    with suppress(OSError):
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0
    return 0.0
