"""The engine without a model: prompts through Ray Data, a teacher that answers at once, checks, ledger and Parquet.

`rayleigh bench flow --json` prints `sizes`, a list with one object a size:

    rows        prompts, each answered once
    run         `rayleigh run --until candidates`, in processes of its own
    again       the same command once more: all is finished
    replay      the same after the candidates were deleted: every answer comes from the ledger
        seconds             of the whole command, with the start of Python, Ray and its workers
        rows_per_second     from the first shard to the last; null for `again`
        rows_per_core       rows by the seconds of a core that all processes together took
        cpu_seconds         kind of process (driver, teacher, judge, read, write, ray) -> seconds of a core
        peak_mib            kind of process -> most memory of one of it, resident, without Ray's shared object store
    ledger      files and bytes that the run left in its ledger
    candidates  files and bytes of its artifact
"""

import json
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.rows import PROMPT, content_id, from_rows
from engine.storage.artifact import load_artifact
from engine.storage.shards import Folder
from jobs import workspace
from jobs.bench.watch import put_prompts, run_candidates
from jobs.terminal.console import columns

HERE = Path(__file__).parent
FORM = HERE.parent / "contracts" / "order_mail" / "order.json"
SIZES = (10_000, 100_000, 1_000_000)
WORDS = "amber birch cedar delta ember falcon glacier harbour island juniper kestrel lagoon meadow nettle orchid".split()


def bench(sizes: Sequence[int], *, profile: str) -> list[dict[str, Any]]:
    """Return the list that the module describes."""
    return [_measure(rows, profile) for rows in sizes]


def _measure(rows: int, profile: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="rayleigh-bench-") as name:
        site, run = Path(name), Path(name, "run")
        _prepare(site, rows, profile)
        found: dict[str, Any] = {"rows": rows, "run": _run(site, rows, profile)}
        found["again"] = _run(site, rows, profile)
        found["again"]["rows_per_second"] = None
        shutil.rmtree(run / "candidates")
        found["replay"] = _run(site, rows, profile)
        return found | {part: _size(run / part) for part in ("ledger", "candidates")}


def _prepare(site: Path, rows: int, profile: str) -> None:
    """Write a contract, and prompts as a finished artifact."""
    for path in (HERE / "flow.yaml", FORM):
        shutil.copy(path, site)
    (site / "seeds.jsonl").write_text('{"input": "Please send 3 blue kites."}\n')
    work = workspace.create(str(site / "flow.yaml"), str(site / "run"), profile=profile, changes=[])
    put_prompts(work, _prompts(rows, work.contract.prompts.shard_rows))


def _prompts(count: int, shard_rows: int) -> Iterator[pa.Table]:
    """Shards of `count` prompts as the job `prompts` leaves them: a shard is a range of ids, within it kinds stand together."""
    rng = random.Random(0)
    ids = sorted(content_id("bench", number) for number in range(count))
    same = {"task_unit": "order_fields", "layer": "core", "difficulty": "easy", "language": "en", "source": "seeds.jsonl"}
    for start in range(0, count, shard_rows):
        made = []
        for prompt_id in ids[start : start + shard_rows]:
            text = f"Please send 3 blue kites to {' '.join(rng.choices(WORDS, k=30))}, before Friday."
            more = {"prompt_id": prompt_id, "text": text, "messages": [{"role": "user", "content": text}], "line": 1}
            made.append(same | more | {"scenario": rng.choice(WORDS), "licence": "CC0-1.0", "redacted": []})
        yield from_rows(sorted(made, key=lambda row: (row["scenario"], row["prompt_id"])), PROMPT)


def _run(site: Path, rows: int, profile: str) -> dict[str, Any]:
    used = run_candidates(site / "flow.yaml", site / "run", profile=profile)
    return {
        "seconds": used.seconds,
        "rows_per_second": _speed(site / "run" / "candidates", rows),
        "rows_per_core": round(rows / sum(used.cpu_seconds.values())),
        "cpu_seconds": used.cpu_seconds,
        "peak_mib": used.peak_mib,
    }


def _speed(folder: Path, rows: int) -> int:
    """Rows per second from the first shard to the last; all rows must have been accepted."""
    made = load_artifact(Folder(str(folder)))
    assert made and made.record.row_counts.rows_out["train"] == made.record.row_counts.rows_in == rows
    times = {shard.path: (folder / "candidates" / shard.path).stat().st_mtime for shard in made.table("candidates").shards}
    first = min(made.table("candidates").shards, key=lambda shard: times[shard.path])
    return round((rows - first.rows) / (max(times.values()) - times[first.path]))


def _size(folder: Path) -> dict[str, int]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}


def as_text(found: Sequence[dict[str, Any]]) -> str:
    """Return the list as a table."""
    rows = [
        [f"{one['rows']:,}", what, f"{one[what]['seconds']:.0f} s", str(one[what]["rows_per_second"] or "-"),
         str(one[what]["rows_per_core"]), json.dumps(one[what]["peak_mib"])]
        for one in found
        for what in ("run", "again", "replay")
    ]  # fmt: skip
    return columns(rows, head=["rows", "what", "command", "rows/s", "rows/s of a core", "peak MiB"])
