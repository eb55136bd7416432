"""`rayleigh bench dedup`: `rayleigh dedup` and the installed peers on the same corpora, as whole commands, Ray's start included."""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from engine.contract.prompts import Copies
from engine.dedup.minhash import band_keys, bands, minhash, text_keys
from engine.records.base import Record
from jobs.bench import corpus, peers
from jobs.bench.watch import ROOT, CommandFailed, Usage, watch
from jobs.commands.dedup import NGRAM, NUM_PERM
from jobs.terminal.console import columns

SIZES = (100_000,)
MAX_ROWS_OF_PEERS = 100_000  # above, only rensa is measured: the others take many minutes
KERNEL_ROWS = 50_000
SHOWN = (
    "seconds", "cpu_seconds", "rows_per_core", "peak_mib", "peak_bytes_per_row", "kept", "missed", "lost_clusters",
    "false_positives",
)  # fmt: skip


class Quality(Record):
    """The rows that stay, compared with the planted duplicates; null if none are planted."""

    kept: int
    """Rows that stay."""
    missed: float | None = None
    """Share of the planted duplicates that stay besides one row of each cluster."""
    lost_clusters: int | None = None
    """Planted clusters of which no row stays."""
    false_positives: float | None = None
    """Share of the rows without a planted duplicate that do not stay."""


class EngineResult(Quality):
    """One engine on one corpus."""

    seconds: float
    """Wall time of the whole command; the median of the rounds, in which the engines take turns."""
    cpu_seconds: float
    """CPU time of all its processes; the median of the rounds."""
    rows_per_core: int
    """Rows per CPU second."""
    peak_mib: float
    """Largest memory of all its processes together, shared memory counted once."""
    peak_bytes_per_row: int
    """`peak_mib` divided by the rows, the programs' own memory included."""


class Ratio(Record):
    """Time of a peer divided by the time of rayleigh."""

    seconds: float
    cpu_seconds: float


class CorpusResult(Record):
    """All engines on one corpus."""

    corpus: str
    """Name of the folder."""
    rows: int
    bytes: int
    """Length of all texts in memory."""
    kernel: int
    """Rows per second of one core that only computes signatures: no process, no reading, no buckets."""
    engines: dict[str, EngineResult]
    ratio: dict[str, Ratio]
    failed: dict[str, str]
    """Peer -> the last line of its output."""


class DedupBench(Record):
    """Output of `rayleigh bench dedup --json`."""

    corpora: tuple[CorpusResult, ...]


def bench(sizes: Sequence[int], folders: Sequence[str], *, rounds: int, python: str, profile: str) -> DedupBench:
    """Measure on the Parquet `folders`, and on generated corpora of `sizes` texts; `python` is the interpreter of the peers."""
    with tempfile.TemporaryDirectory(prefix="rayleigh-bench-") as name:
        site = Path(name)
        for rows in sizes:
            corpus.write(site / f"corpus_{rows}", rows)
        corpora = [*(Path(folder).absolute() for folder in folders), *(site / f"corpus_{rows}" for rows in sizes)]
        results = [_measure(folder, site, rounds=rounds, python=python, profile=profile) for folder in corpora]
        return DedupBench(corpora=tuple(results))


def _measure(folder: Path, site: Path, *, rounds: int, python: str, profile: str) -> CorpusResult:
    rows = sum(pq.ParquetFile(file).metadata.num_rows for file in folder.glob("*.parquet"))
    kept = site / "kept"
    commands = {"rayleigh": [sys.executable, "-m", "jobs.cli", "dedup", str(folder), str(kept), "--profile", profile]}
    installed = subprocess.run([python, peers.__file__], capture_output=True, text=True, check=True).stdout.split()
    measured = [name for name in installed if name == "rensa" or rows <= MAX_ROWS_OF_PEERS]
    commands |= {name: [python, peers.__file__, name, str(folder), str(kept)] for name in measured}
    usages: dict[str, list[Usage]] = {name: [] for name in commands}
    qualities: dict[str, Quality] = {}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for name, words in commands.items():
            shutil.rmtree(kept, ignore_errors=True)  # some engines write a folder, others a file
            kept.unlink(missing_ok=True)
            try:
                usages[name].append(watch(words, cwd=ROOT, log=site / f"{name}.log"))
                qualities[name] = _quality(folder, kept)
            except CommandFailed as error:
                failed[name] = error.output.rpartition("\n")[2]
    if "rayleigh" in failed:
        raise RuntimeError(failed["rayleigh"])
    engines = {name: _result(used, rows, qualities[name]) for name, used in usages.items() if name not in failed}
    texts = ds.dataset(folder).head(KERNEL_ROWS, columns=["text"])["text"]
    return CorpusResult(
        corpus=folder.name,
        rows=rows,
        bytes=sum(batch["text"].nbytes for batch in ds.dataset(folder).to_batches(columns=["text"])),
        kernel=_kernel(texts),
        engines=engines,
        ratio={name: _ratio(result, engines["rayleigh"]) for name, result in engines.items() if name != "rayleigh"},
        failed=failed,
    )


def _ratio(peer: EngineResult, ours: EngineResult) -> Ratio:
    return Ratio(seconds=round(peer.seconds / ours.seconds, 2), cpu_seconds=round(peer.cpu_seconds / ours.cpu_seconds, 2))


def _result(used: list[Usage], rows: int, quality: Quality) -> EngineResult:
    cpu_seconds = statistics.median(sum(usage.cpu_seconds.values()) for usage in used)
    peak_mib = max(usage.together_mib for usage in used)
    return EngineResult(
        **quality.model_dump(),
        seconds=statistics.median(usage.seconds for usage in used),
        cpu_seconds=round(cpu_seconds, 1),
        rows_per_core=round(rows / cpu_seconds),
        peak_mib=peak_mib,
        peak_bytes_per_row=round(peak_mib * 2**20 / rows),
    )


def _quality(folder: Path, kept: Path) -> Quality:
    """Compare the ids that stay with the planted clusters."""
    stays = pq.read_table(kept, columns=["id"]) if kept.is_file() else ds.dataset(sorted(kept.glob("part-*"))).to_table(["id"])
    truth = ds.dataset(folder).to_table()
    if "cluster" not in truth.column_names:
        return Quality(kept=len(stays))
    is_kept = np.isin(truth["id"].to_numpy(), stays["id"].to_numpy())
    cluster = truth["cluster"].to_numpy()
    is_planted = cluster >= 0
    _, number, sizes = np.unique(cluster[is_planted], return_inverse=True, return_counts=True)
    stay = np.bincount(number, weights=is_kept[is_planted], minlength=len(sizes))
    missed = np.maximum(stay - 1, 0).sum() / max(1, (sizes - 1).sum())
    false_positives = (~is_kept[~is_planted]).mean() if (~is_planted).any() else 0.0
    return Quality(
        kept=len(stays),
        missed=round(float(missed), 5),
        lost_clusters=int((stay == 0).sum()),
        false_positives=round(float(false_positives), 5),
    )


def _kernel(texts: pa.ChunkedArray) -> int:
    copies = Copies(threshold=0.7, ngram=NGRAM, num_perm=NUM_PERM)

    def sign() -> None:
        text_keys(texts)
        band_keys(minhash(texts, copies), bands(copies))

    sign()  # compiles
    started = time.process_time()
    sign()
    return round(len(texts) / (time.process_time() - started))


def as_text(result: DedupBench) -> str:
    """Return the result as a table, the ratios to each peer, and how the time of a row grows with the rows."""
    rows = [
        [f"{of_corpus.rows:,}", name, *(str(getattr(engine, field)) for field in SHOWN)]
        for of_corpus in result.corpora
        for name, engine in of_corpus.engines.items()
    ]
    kernels = [f"{of.rows:,} rows: the kernel alone signs {of.kernel:,} rows per second of a core" for of in result.corpora]
    failures = [f"{name} failed: {line}" for of in result.corpora for name, line in of.failed.items()]
    lines = [*(line for of in result.corpora for line in _compared(of)), *_growth(result.corpora), *kernels, *failures]
    return "\n".join([columns(rows, head=["rows", "engine", *SHOWN]), *lines])


def _compared(of: CorpusResult) -> Iterator[str]:
    ours = of.engines["rayleigh"]
    for name in of.ratio:
        peer = of.engines[name]
        wall, cpu = ours.seconds / peer.seconds, ours.rows_per_core / max(1, peer.rows_per_core)
        yield f"{of.rows:,} rows: {wall:.2f} of the wall time of {name}, {cpu:.2f} times its rows a CPU second"


def _growth(corpora: Sequence[CorpusResult]) -> Iterator[str]:
    times = [(of.rows, of.engines["rayleigh"].seconds / of.rows) for of in sorted(corpora, key=lambda of: of.rows)]
    for (fewer, before), (rows, after) in pairwise(times):
        yield f"{rows:,} rows: {after / before:.2f} of the wall time a row of {fewer:,} rows"
