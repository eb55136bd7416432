"""`rayleigh bench registry`: processes that promote at the same time, some of which are killed; our registry and MLflow's aliases.

Each promotion is of a student of its own, so that an event is known by what it made the champion. An event that was acknowledged to
its process must be in the history, and each event must follow the one before: if two say that the same champion was before them,
one of them has overwritten the other unseen. MLflow runs in another interpreter (`--peers PYTHON`), with a registry of its own on
sqlite. `--json` prints a `RegistryBench`.

    python -m jobs.bench.registry FOLDER SEED TURNS     one of the processes
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from engine.errors import InputError
from engine.records.base import Json, Record
from engine.records.record import Identity
from engine.release.registry import Package, Registry
from engine.rows import content_id
from engine.storage.artifact import ArtifactWriter, RowCounts
from engine.storage.folder import Folder
from jobs.bench.watch import ROOT
from jobs.terminal.console import columns

MLFLOW = Path(__file__).with_name("registry_mlflow.py")
CONTRACT = "orders"
BETWEEN_KILLS = (0.2, 1.0)  # seconds


class Order(NamedTuple):
    """How many processes do what."""

    processes: int = 8
    turns: int = 20
    """Promotions of each process."""
    kills: int = 8


class Outcome(Record):
    """What became of the promotions in one registry."""

    registry: str
    acknowledged: int
    """Promotions that the registry acknowledged to their process."""
    in_history: int
    """Of these, how many its history names afterwards."""
    overwritten: int
    """Promotions that followed a champion which another one followed, too: one of both is lost."""
    linear: bool
    """Whether its history is one chain, from the first champion to the last."""
    failed: int
    """Processes that ended with an error though nobody killed them."""
    seconds: float


class RegistryBench(Record):
    """The result."""

    outcomes: tuple[Outcome, ...]


def bench(python: str, order: Order) -> RegistryBench:
    """Return what became of the promotions, in our registry and, if the interpreter `python` has it, in MLflow.

    Raises:
        InputError: MLflow ended with an error.
    """
    with tempfile.TemporaryDirectory(prefix="rayleigh-bench-") as scratch:
        outcomes = [_ours(Path(scratch, "ours"), order)]
        if version := subprocess.run([python, str(MLFLOW)], check=True, capture_output=True, text=True).stdout.strip():
            outcomes.append(_mlflow(Path(scratch, "mlflow"), python, version, order))
    return RegistryBench(outcomes=tuple(outcomes))


def as_text(result: RegistryBench) -> str:
    """Return the table."""
    head = ["registry", "acknowledged", "in its history", "overwritten unseen", "linear", "failed processes", "seconds"]
    rows = [
        [each.registry, each.acknowledged, each.in_history, each.overwritten, _yes(each.linear), each.failed, each.seconds]
        for each in result.outcomes
    ]
    return columns(rows, head=head)


def _ours(folder: Path, order: Order) -> Outcome:
    said, failed, seconds = _promote_at_once([sys.executable, "-m", "jobs.bench.registry"], folder, order)
    events = Registry(Folder(str(folder)), CONTRACT).history()
    known = {event.id for event in events}
    before: list[str | None] = [None, *(event.id for event in events)]
    return Outcome(
        registry="rayleigh", acknowledged=len(said), in_history=sum(each["event"] in known for each in said),
        overwritten=_overwritten([event.before for event in events]),
        linear=all(event.before == last for event, last in zip(events, before, strict=False)), failed=failed, seconds=seconds,
    )  # fmt: skip


def _mlflow(folder: Path, python: str, version: str, order: Order) -> Outcome:
    folder.mkdir()
    _ask_mlflow(python, folder)  # processes that make the tables at the same time fail
    said, failed, seconds = _promote_at_once([python, str(MLFLOW)], folder, order)
    champion, overwritten = _ask_mlflow(python, folder)["champion"], _overwritten([each["before"] for each in said])
    named = sum(each["event"] == champion for each in said)  # an alias has no history: the last one is all that is known
    return Outcome(
        registry=f"MLflow {version}, aliases on sqlite", acknowledged=len(said), in_history=named, overwritten=overwritten,
        linear=named == len(said), failed=failed, seconds=seconds,
    )  # fmt: skip


def _ask_mlflow(python: str, folder: Path) -> Json:
    asked = subprocess.run([python, str(MLFLOW), str(folder)], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise InputError(f"MLflow in {python} ended with an error:\n{asked.stderr[-2000:]}")
    return json.loads(asked.stdout)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _overwritten(before: Sequence[str | None]) -> int:
    return sum(count - 1 for count in Counter(before).values())


def _promote_at_once(command: Sequence[str], folder: Path, order: Order) -> tuple[list[dict[str, str | None]], int, float]:
    """Return the events that processes were told of, how many failed by themselves, and the seconds."""
    folder.mkdir(exist_ok=True)
    rng, logs, began = random.Random(0), list[Path](), time.monotonic()

    def start() -> subprocess.Popen[bytes]:
        seed = len(logs)
        logs.append(folder.with_name(f"{folder.name}.{seed}.log"))
        with logs[-1].open("wb") as log, logs[-1].with_suffix(".err").open("wb") as error:
            return subprocess.Popen([*command, str(folder), str(seed), str(order.turns)], cwd=ROOT, stdout=log, stderr=error)

    running = [start() for _ in range(order.processes)]
    for _ in range(order.kills):
        time.sleep(rng.uniform(*BETWEEN_KILLS))
        victim = rng.randrange(order.processes)
        if running[victim].poll() is None:
            running[victim].kill()
            running[victim].wait()
            running[victim] = start()
    failed = sum(process.wait() != 0 for process in running)
    lines = [line for log in logs for line in log.read_text().splitlines() if line.endswith("}")]  # a killed one may write half
    return [json.loads(line) for line in lines], failed, round(time.monotonic() - began, 1)


def main(folder: str, seed: str, turns: str) -> None:
    """Promote a student of its own in each turn; print each event once it is made."""
    shelf = Registry(Folder(folder), CONTRACT)
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(int(turns)):
            writer = ArtifactWriter(Folder(scratch) / str(turn) / "student")
            writer.folder.write("model/weights.bin", f"weights {seed} {turn}".encode())
            made = writer.finish(Identity("student", {}, {}, content_id(seed, turn)), RowCounts(0, {}))
            event = shelf.promote(made, Package("small", made.fingerprint, {"card.md": "text"}))
            print(json.dumps({"event": event.id, "before": event.before}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
