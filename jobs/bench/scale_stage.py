"""A stage of the line as a command on raylets: CPU seconds and memory of all processes, counters of object stores, storage."""

import os
import re
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import psutil

from engine.records.scale import StageUse
from jobs.bench.flow import files_in
from jobs.bench.raylets import Raylets
from jobs.bench.scale_site import CHANGES, CONTRACT, RUN
from jobs.bench.watch import Sampler, family, rayleigh

STAGES = ("prompts", "candidates", "dataset")
EVERY = 1.0  # seconds between two questions to the raylets
RESET_PEAK = "5"  # written to /proc/PID/clear_refs, proc(5)
LOG = "log"
IDLE = "ray::IDLE"  # titles of workers
ACTORS = ("ray::MapWorker", "ray::_StatsActor", "ray::AutoscalingRequester", "ray::_AutoscalingCoordinatorActor")
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")  # of each node


class ClusterSampler(Sampler):
    """Counts the driver and all processes of a cluster that this process has started.

    Peaks are those that the kernel keeps (VmHWM): one between two samples is missed only in the last quarter of a second of a
    process.
    """

    def __init__(self, raylets: Raylets) -> None:
        super().__init__()
        self.raylets = raylets
        self.references = 0
        self.peaks: dict[str, int] = defaultdict(int)  # bytes
        self.largest_task = ""
        self._tasks: dict[int, tuple[int, str]] = {}  # worker -> its peak, and what it ran when it rose
        self._before: dict[int, int] = {}  # worker -> its peak when this stage began, which is of an earlier one
        self._asked = 0.0
        for process in family(os.getpid()):  # what they have used so far is not of this stage
            with suppress(psutil.Error, OSError):
                times = process.cpu_times()
                self._last_cpu[process.pid] = times.user + times.system
                Path(f"/proc/{process.pid}/clear_refs").write_text(RESET_PEAK)
                self._before[process.pid] = _peak(process.pid)

    def sample(self, pid: int) -> None:
        """Measure the driver `pid` and the processes of the cluster now."""
        for process in family(os.getpid()):
            with suppress(psutil.Error, OSError):
                if process.pid != os.getpid():
                    self._add(process, is_driver=process.pid == pid)
        if time.monotonic() - self._asked >= EVERY:
            self.references = max(self.references, self.raylets.references())
            self._asked = time.monotonic()

    def _add(self, process: psutil.Process, *, is_driver: bool) -> None:
        title = " ".join(process.cmdline()).strip()
        kind = "driver" if is_driver else kind_of(process.name(), title)
        times = process.cpu_times()
        self.cpu_seconds[kind] += times.user + times.system - self._last_cpu.get(process.pid, 0.0)
        self._last_cpu[process.pid] = times.user + times.system
        peak = _peak(process.pid)
        if kind == "task":
            before, ran = self._tasks.get(process.pid, (0, ""))
            ran = title if peak > before and not title.startswith(IDLE) else ran
            self._tasks[process.pid] = peak, ran
            if not ran and peak <= self._before.get(process.pid, 0):
                return  # idle, and as large as an earlier stage has left it
            if ran and peak > self.peaks[kind]:
                self.largest_task = ran.removeprefix("ray::")
        self.peaks[kind] = max(self.peaks[kind], peak)


def run_stage(site: Path, stage: str, rows: int, raylets: Raylets, *, profile: Path) -> StageUse:
    """Run the job `stage` of the run in `site`, whose earlier jobs are finished, and return what it took, but for its blocks.

    Raises:
        CommandFailed: the job failed.
    """
    run, sampler, before = site / RUN, ClusterSampler(raylets), raylets.counters()
    stored = files_in(run / "ledger")
    words = ["run", str(site / CONTRACT), str(run), "--profile", str(profile), "--until", stage]
    usage = rayleigh(words, log=site / LOG, changes=CHANGES, sampler=sampler)
    counted, peaks = raylets.counters().since(before), sampler.peaks
    ledger, artifact = files_in(run / "ledger"), files_in(run / stage)
    cpu_seconds = sum(sampler.cpu_seconds.values())
    return StageUse(
        stage=stage,
        rows=rows,
        blocks=0,
        seconds=usage.seconds,
        cpu_seconds=round(cpu_seconds, 1),
        rows_per_core=round(rows / cpu_seconds, 1),
        shuffled_bytes=counted.bytes,
        spilled_bytes=counted.spilled,
        objects=counted.objects,
        references=sampler.references,
        storage_bytes=artifact.bytes + ledger.bytes - stored.bytes,
        files=artifact.files + ledger.files - stored.files,
        driver_bytes=peaks["driver"],
        head_bytes=peaks["head"],
        task_bytes=peaks["task"],
        largest_task=sampler.largest_task,
    )


def kind_of(name: str, title: str) -> str:
    """Return the kind of a process of a cluster, by its name and command line: task, actor, head or ray.

    Ray sets the title of a worker to `ray::` and the name of what it runs. Actors hold models and a batch, never more.
    """
    if title.startswith(ACTORS):
        return "actor"
    if title.startswith("ray::") and not title.startswith(AGENTS):
        return "task"
    return "head" if name.startswith("gcs_server") else "ray"


def _peak(pid: int) -> int:
    """Return the largest resident memory of a process since its start or the last reset, in bytes."""
    peak = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(peak[1]) * 1024 if peak else 0  # a process that has ended and was not waited for has none
