"""Run a command and measure all its processes from outside: seconds, CPU seconds, peak memory."""

import re
import resource
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

from engine.errors import RayleighError
from engine.runs.recipe import identify
from engine.storage.artifact import RowCounts
from engine.storage.shards import hex_digest, rows_digest, table_of, write_shard
from jobs.pipeline import pipeline
from jobs.workspace import Workspace

ROOT = Path(__file__).parents[2]
EVERY = 0.25  # seconds between two samples
TAIL = 2000  # bytes of a command's output that are shown if it fails
STAGES = {"Teacher": "teacher", "Grader": "judge", "grade_by_checks": "judge", "_save": "write", "_load": "read"}


class CommandFailed(RayleighError):
    """A command that was measured failed."""

    def __init__(self, words: Sequence[str], returncode: int, output: str) -> None:
        """`output` is the end of what it has written."""
        super().__init__(f"{' '.join(words)}\nended with exit code {returncode}. Its last lines:\n{output}")
        self.output = output


class Usage(NamedTuple):
    """The resources that a command used."""

    seconds: float
    """From its start to its end."""
    cpu_seconds: dict[str, float]
    """Kind of process (driver, teacher, judge, read, write, ray) -> CPU seconds."""
    peak_mib: dict[str, float]
    """Kind of process -> largest resident memory of one process, without Ray's shared object store, in MiB."""
    together_mib: float
    """Largest memory of all processes at one time, shared pages counted once, in MiB."""


class Sampler:
    """Sums the CPU time of a process and its descendants and keeps their peak memory, from one sample to the next."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.cpu_seconds: defaultdict[str, float] = defaultdict(float)
        self.peak_mib: defaultdict[str, float] = defaultdict(float)
        self.together_mib = 0.0
        self._last_cpu: dict[int, float] = {}

    def sample(self, pid: int) -> None:
        """Measure the process `pid`, of kind `driver`, and its descendants now."""
        processes = family(pid)
        self.together_mib = max(self.together_mib, sum(map(_proportional_mib, processes)))
        for process in processes:
            with suppress(psutil.Error, OSError):
                kind = "driver" if process.pid == pid else _kind(process)
                times = process.cpu_times()
                self.cpu_seconds[kind] += times.user + times.system - self._last_cpu.get(process.pid, 0.0)
                self._last_cpu[process.pid] = times.user + times.system
                self.peak_mib[kind] = max(self.peak_mib[kind], _mib(process.pid))

    def complete(self, cpu_seconds: float) -> None:
        """Give the driver what is missing of `cpu_seconds`, which it and the children that it waited for used in all.

        A process that ended had used some after its last sample, and a short one had no sample at all.
        """
        self.cpu_seconds["driver"] += max(0.0, cpu_seconds - sum(self.cpu_seconds.values()))

    def usage(self) -> Usage:
        """Return the resources used so far."""
        return Usage(
            seconds=round(time.monotonic() - self.started, 2),
            cpu_seconds={kind: round(value, 1) for kind, value in sorted(self.cpu_seconds.items())},
            peak_mib={kind: float(round(value)) for kind, value in sorted(self.peak_mib.items())},
            together_mib=round(self.together_mib),
        )


def put_artifact(work: Workspace, name: str, pieces: Iterable[pa.Table], schema: pa.Schema, *, label: str) -> None:
    """Write `pieces` as the only table of the finished artifact of the job `name`; all rows count as `label`."""
    [job] = [job for job in pipeline(work.contract) if job.name == name]
    context = work.context(job, log=print, progress=print)
    shards, total = [], 0
    for piece in pieces:
        shards.append(write_shard(context.writer.folder / name, piece, schema))
        total += rows_digest(piece)
    table = context.writer.tables[name] = table_of(shards, hex_digest(total))
    context.writer.finish(identify(context), RowCounts(table.rows, {label: table.rows}))


def run_candidates(contract: Path, run: Path, *, profile: str, changes: Sequence[str] = ()) -> Usage:
    """Run `rayleigh run --until candidates` and measure it."""
    words = ["run", str(contract), str(run), "--profile", profile, "--until", "candidates"]
    return rayleigh(words, log=run.with_suffix(".log"), changes=changes)


def rayleigh(words: Sequence[str], *, log: Path, changes: Sequence[str] = (), sampler: Sampler | None = None) -> Usage:
    """Run the command `rayleigh` with the arguments `words`, and `changes` as `--set`, and measure it; see `watch`."""
    options = [word for change in changes for word in ("--set", change)]
    return watch([sys.executable, "-m", "jobs.cli", *words, *options], cwd=ROOT, log=log, sampler=sampler)


def watch(words: Sequence[str], *, cwd: Path, log: Path, sampler: Sampler | None = None) -> Usage:
    """Run the command `words` to its end and return what it used; `sampler` may count other processes, too.

    No other child of this process may end meanwhile.

    Raises:
        CommandFailed: it did, with the end of `log`.
    """
    sampler, before = sampler or Sampler(), _cpu_seconds_of_children()
    with log.open("ab") as out, subprocess.Popen(words, cwd=cwd, stdout=out, stderr=subprocess.STDOUT) as driver:
        while driver.poll() is None:
            sampler.sample(driver.pid)
            with suppress(subprocess.TimeoutExpired):
                driver.wait(EVERY)
    if driver.returncode:
        raise CommandFailed(words, driver.returncode, log.read_bytes()[-TAIL:].decode(errors="replace").strip())
    sampler.complete(_cpu_seconds_of_children() - before)
    return sampler.usage()


def family(pid: int) -> list[psutil.Process]:
    """Return the process `pid` and its descendants; none if it has ended."""
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def _cpu_seconds_of_children() -> float:
    """Return the CPU time of this process's children that have ended, and of those that these waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _kind(process: psutil.Process) -> str:
    """Return the kind of a process; Ray sets the title of a worker to `ray::` and the name of its task or actor."""
    title = " ".join(process.cmdline())
    if not title.startswith("ray::"):
        return "ray"
    return next((kind for name, kind in STAGES.items() if name in title), "ray")


def _mib(pid: int) -> float:
    sizes = re.findall(r"^Rss(?:Anon|File):\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return sum(map(int, sizes)) / 1024


def _proportional_mib(process: psutil.Process) -> float:
    """Return the proportional set size of a process: of a page that n processes share it counts 1/n."""
    with suppress(psutil.Error, OSError):
        return process.memory_full_info().pss / 2**20
    return 0.0
