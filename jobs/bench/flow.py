"""`rayleigh bench flow`: the engine with a fake teacher: Ray Data, checks, ledger and Parquet.

`--json` prints a `FlowBench`.
"""

import json
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from engine.records.base import Record
from engine.rows import PROMPT, content_id, from_rows
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from jobs import workspace
from jobs.bench.watch import put_artifact, run_candidates
from jobs.terminal.console import columns

HERE = Path(__file__).parent
FORM = HERE.parent / "contracts" / "order_mail" / "order.json"
SIZES = (10_000, 100_000, 1_000_000)
WORDS = "amber birch cedar delta ember falcon glacier harbour island juniper kestrel lagoon meadow nettle orchid".split()


class FlowRun(Record):
    """One call of `rayleigh run --until candidates`."""

    seconds: float
    """Of the whole command, with the start of Python, Ray and its workers."""
    rows_per_second: int | None
    """From the first shard to the last; null if nothing was written."""
    rows_per_core: int
    """Rows divided by the CPU seconds of all processes."""
    cpu_seconds: dict[str, float]
    """Kind of process (driver, teacher, judge, read, write, ray) -> CPU seconds."""
    peak_mib: dict[str, float]
    """Kind of process -> largest resident memory of one process, without Ray's shared object store, in MiB."""


class Files(Record):
    """A folder's content."""

    files: int
    bytes: int


class FlowSize(Record):
    """All measurements of one size."""

    rows: int
    """Prompts; each is answered once."""
    run: FlowRun
    """The first call."""
    again: FlowRun
    """The second call: every job is finished."""
    replay: FlowRun
    """A call after the candidates were deleted: every answer comes from the ledger."""
    ledger: Files
    candidates: Files


class FlowBench(Record):
    """The result of the benchmark."""

    sizes: list[FlowSize]


def bench(sizes: Sequence[int], *, profile: str) -> FlowBench:
    """Measure runs of `sizes` prompts."""
    return FlowBench(sizes=[_measure(rows, profile) for rows in sizes])


def _measure(rows: int, profile: str) -> FlowSize:
    with tempfile.TemporaryDirectory(prefix="rayleigh-bench-") as name:
        site, run = Path(name), Path(name, "run")
        _prepare(site, rows, profile)
        first = _run(site, rows, profile)
        again = _run(site, rows, profile).model_copy(update={"rows_per_second": None})
        shutil.rmtree(run / "candidates")
        replay = _run(site, rows, profile)
        ledger, candidates = files_in(run / "ledger"), files_in(run / "candidates")
    return FlowSize(rows=rows, run=first, again=again, replay=replay, ledger=ledger, candidates=candidates)


def _prepare(site: Path, rows: int, profile: str) -> None:
    """Write the contract, and the prompts as a finished artifact."""
    for path in (HERE / "flow.yaml", FORM):
        shutil.copy(path, site)
    (site / "seeds.jsonl").write_text('{"input": "Please send 3 blue kites."}\n')
    work = workspace.create(str(site / "flow.yaml"), str(site / "run"), profile=profile, changes=[])
    pieces = make_prompts(rows, work.contract.prompts.shard_rows)
    put_artifact(work, "prompts", pieces, PROMPT, label="prompts")


def make_prompts(count: int, shard_rows: int) -> Iterator[pa.Table]:
    """Yield shards of `count` prompts as the job `prompts` writes them: each is a range of ids, sorted by scenario."""
    rng = random.Random(0)
    ids = sorted(content_id("bench", number) for number in range(count))
    same = {"task_unit": "order_fields", "layer": "core", "difficulty": "easy", "language": "en", "source": "seeds.jsonl"}
    for start in range(0, count, shard_rows):
        rows = []
        for prompt_id in ids[start : start + shard_rows]:
            text = f"Please send 3 blue kites to {' '.join(rng.choices(WORDS, k=30))}, before Friday."
            more = {"prompt_id": prompt_id, "text": text, "messages": [{"role": "user", "content": text}], "line": 1}
            rows.append(same | more | {"scenario": rng.choice(WORDS), "licence": "CC0-1.0", "redacted": []})
        yield from_rows(sorted(rows, key=lambda row: (row["scenario"], row["prompt_id"])), PROMPT)


def _run(site: Path, rows: int, profile: str) -> FlowRun:
    usage = run_candidates(site / "flow.yaml", site / "run", profile=profile)
    return FlowRun(
        seconds=usage.seconds,
        rows_per_second=_speed(site / "run" / "candidates", rows),
        rows_per_core=round(rows / sum(usage.cpu_seconds.values())),
        cpu_seconds=usage.cpu_seconds,
        peak_mib=usage.peak_mib,
    )


def _speed(folder: Path, rows: int) -> int:
    """Return rows per second from the first shard to the last. All rows must have been accepted."""
    artifact = load_artifact(Folder(str(folder)))
    assert artifact and artifact.record.row_counts.rows_out["train"] == artifact.record.row_counts.rows_in == rows
    shards = artifact.table("candidates").shards
    times = {shard.path: (folder / "candidates" / shard.path).stat().st_mtime for shard in shards}
    first = min(shards, key=lambda shard: times[shard.path])
    return round((rows - first.rows) / (max(times.values()) - times[first.path]))


def files_in(folder: Path) -> Files:
    """Return what lies in `folder`, at any depth; nothing if there is no such folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return Files(files=len(paths), bytes=sum(path.stat().st_size for path in paths))


def as_text(result: FlowBench) -> str:
    """Return a table with a line per call."""
    rows = [
        [f"{size.rows:,}", what, f"{run.seconds:.0f} s", str(run.rows_per_second or "-"), str(run.rows_per_core),
         json.dumps(run.peak_mib)]
        for size in result.sizes
        for what, run in (("run", size.run), ("again", size.again), ("replay", size.replay))
    ]  # fmt: skip
    return columns(rows, head=["rows", "what", "command", "rows/s", "rows/s of a core", "peak MiB"])
