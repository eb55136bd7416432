"""`rayleigh dedup` against the peers that are installed, on the same corpora: whole commands, Ray's start included.

`rayleigh bench dedup --json` prints `corpora`, a list with one object for each:

    corpus, rows, bytes   the folder, its texts, and how long these are
    kernel                rows per second of one core that only signs: no process, no reading, no buckets
    engines               rayleigh and each peer
        seconds               of the whole command; the median of the rounds, in which the engines take turns
        cpu_seconds           of all its processes
        rows_per_core         rows per second of a core
        peak_mib              most memory of all its processes together, what they share counted once
        kept                  rows that stay
        left                  share of the planted copies that stay beyond one of a cluster; null where none are planted
        lost                  clusters of which nothing stays
        needless              share of what has no copy that was taken out all the same
    ratio                 peer -> its seconds and cpu_seconds by those of rayleigh
    failed                peer -> why there is nothing of it
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from engine.contract.prompts import Copies
from engine.dedup.minhash import band_keys, bands, minhash, text_keys
from jobs.bench import corpus, peers
from jobs.bench.watch import ROOT, Usage, watch
from jobs.commands.dedup import NGRAM, NUM_PERM
from jobs.terminal.console import columns

SIZES = (100_000,)
SLOW = 100_000  # rows beyond which only rensa is asked: the others take many minutes
KERNEL_ROWS = 50_000


def bench(sizes: Sequence[int], folders: Sequence[str], *, rounds: int, python: str, profile: str) -> list[dict[str, Any]]:
    """Measure on the Parquet `folders`, and on corpora of `sizes` texts that are made for it; `python` has the peers."""
    with tempfile.TemporaryDirectory(prefix="rayleigh-bench-") as name:
        site = Path(name)
        for rows in sizes:
            corpus.write(site / f"corpus_{rows}", rows)
        places = [*(Path(folder).absolute() for folder in folders), *(site / f"corpus_{rows}" for rows in sizes)]
        return [_measure(place, site, rounds=rounds, python=python, profile=profile) for place in places]


def _measure(place: Path, site: Path, *, rounds: int, python: str, profile: str) -> dict[str, Any]:
    rows = sum(pq.ParquetFile(file).metadata.num_rows for file in place.glob("*.parquet"))
    kept = site / "kept"
    ours = [sys.executable, "-m", "jobs.cli", "dedup", str(place), str(kept), "--profile", profile]
    commands = {"rayleigh": ours}
    commands |= {name: [python, peers.__file__, name, str(place), str(kept)] for name in _installed(python, rows)}
    usages: dict[str, list[Usage]] = {name: [] for name in commands}
    judged: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for name, words in commands.items():
            _clear(kept)
            try:
                usages[name].append(watch(words, cwd=ROOT, log=site / f"{name}.log"))
                judged[name] = _judge(place, kept)
            except subprocess.CalledProcessError as error:
                failed[name] = error.output.decode(errors="replace").strip().rpartition("\n")[2]
    engines = {name: {**_summary(used, rows), **judged[name]} for name, used in usages.items() if name not in failed}
    if "rayleigh" in failed:
        raise RuntimeError(failed["rayleigh"])
    texts = ds.dataset(place).head(KERNEL_ROWS, columns=["text"])["text"]
    ratio = {
        name: {what: round(one[what] / engines["rayleigh"][what], 2) for what in ("seconds", "cpu_seconds")}
        for name, one in engines.items()
        if name != "rayleigh"
    }
    size = sum(batch["text"].nbytes for batch in ds.dataset(place).to_batches(columns=["text"]))
    head = {"corpus": place.name, "rows": rows, "bytes": size, "kernel": _kernel(texts)}
    return {**head, "engines": engines, "ratio": ratio, "failed": failed}


def _clear(kept: Path) -> None:
    if kept.is_dir():
        shutil.rmtree(kept)
    kept.unlink(missing_ok=True)


def _installed(python: str, rows: int) -> list[str]:
    found = subprocess.run([python, peers.__file__], capture_output=True, text=True, check=True).stdout.split()
    return [name for name in found if name == "rensa" or rows <= SLOW]


def _summary(used: list[Usage], rows: int) -> dict[str, Any]:
    cores = statistics.median(sum(one.cpu_seconds.values()) for one in used)
    return {
        "seconds": statistics.median(one.seconds for one in used),
        "cpu_seconds": round(cores, 1),
        "rows_per_core": round(rows / cores),
        "peak_mib": max(one.together_mib for one in used),
    }


def _judge(place: Path, kept: Path) -> dict[str, Any]:
    """Compare the ids that stay with what was planted."""
    stays = pq.read_table(kept, columns=["id"]) if kept.is_file() else ds.dataset(sorted(kept.glob("part-*"))).to_table(["id"])
    truth = ds.dataset(place).to_table()
    found: dict[str, Any] = {"kept": len(stays), "left": None, "lost": None, "needless": None}
    if "cluster" not in truth.column_names:
        return found
    is_kept = np.isin(truth["id"].to_numpy(), stays["id"].to_numpy())
    cluster = truth["cluster"].to_numpy()
    planted = cluster >= 0
    _, number, sizes = np.unique(cluster[planted], return_inverse=True, return_counts=True)
    stay = np.bincount(number, weights=is_kept[planted], minlength=len(sizes))
    left = np.maximum(stay - 1, 0).sum() / max(1, (sizes - 1).sum())
    needless = (~is_kept[~planted]).mean() if (~planted).any() else 0.0
    return found | {"left": round(float(left), 5), "lost": int((stay == 0).sum()), "needless": round(float(needless), 5)}


def _kernel(texts: Any) -> int:
    copies = Copies(threshold=0.7, ngram=NGRAM, num_perm=NUM_PERM)

    def sign() -> None:
        text_keys(texts)
        band_keys(minhash(texts, copies), bands(copies))

    sign()  # compiles
    started = time.process_time()
    sign()
    return round(len(texts) / (time.process_time() - started))


def as_text(found: Sequence[dict[str, Any]]) -> str:
    """Return the list as a table."""
    what = ("seconds", "cpu_seconds", "rows_per_core", "peak_mib", "kept", "left", "lost", "needless")
    rows = [
        [f"{one['rows']:,}", name, *(str(engine[key]) for key in what)] for one in found for name, engine in one["engines"].items()
    ]
    limit = "\n".join(f"{one['rows']:,} rows: the kernel alone signs {one['kernel']:,} rows per second of a core" for one in found)
    faults = [f"{name} failed: {why}" for one in found for name, why in one["failed"].items()]
    return "\n".join([columns(rows, head=["rows", "engine", *what]), limit, *faults])
