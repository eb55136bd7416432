"""`rayleigh dedup`: rows of data files in, those that are no duplicate of another out.

The output folder holds the rows and nothing else, so that it is a data set for whatever reads a folder: datasets, polars, DuckDB,
pandas, Rayleigh itself. `__dedup__/OUTPUT` beside it holds the tables that `engine/dedup/job.py` describes, and `summary.json`
(records.dedup.DedupSummary). The output folder gets its name when it is complete; behind a URL it is complete once the summary,
which is written last, is there.
"""

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import get_args

import psutil

from engine.contract.profile import Profile, load_profile
from engine.contract.prompts import Copies, Normalization
from engine.dedup.index import normalization_of
from engine.dedup.job import Columns, DedupJob, open_job, run
from engine.dedup.lines import SchemaDrift
from engine.dedup.signature import IdsMissing, Matcher, SemanticMatcher
from engine.distributed.executor import Executor
from engine.distributed.in_process import is_in_process, keep_memory
from engine.distributed.thread_pool import ThreadPool
from engine.errors import InputError, StorageError
from engine.readers.formats import Damaged
from engine.records.dedup import DedupSummary
from engine.storage.artifact import ArtifactWriter
from engine.storage.folder import Folder
from jobs import places
from jobs.terminal.environment import set_environment

SUMMARY = "summary.json"
SIDE = "__dedup__"  # names like this are no data for datasets, Arrow, pandas, Spark and Rayleigh
THRESHOLDS = {"exact": 1.0, "minhash": 0.7, "semantic": 0.95}  # method -> default of --threshold
MODEL = "all-minilm-l6-v2"  # that of `curation.semantic`, whose section takes as long to import as all the rest
NGRAM, NUM_PERM = 5, 112  # as most published corpora were deduplicated
MEMORY_FACTOR = 2.5  # memory of tasks over that of the signatures: what travels between them is there, too
MAX_MEMORY_SHARE = 0.3  # of the machine's memory for the object store; the rest of it goes to disk
ALLOCATOR = {  # workers keep the memory of a block for the next one; page faults were a sixth of all work otherwise
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(2 << 30),
}


@dataclass(frozen=True)
class Options:
    """The options of the command."""

    text_column: str = "text"
    id_column: str | None = None
    threshold: float | None = None
    method: str = "minhash"
    model: str = MODEL
    keep: tuple[str, ...] = ()
    against: str | None = None
    index: str | None = None
    normalization: str | None = None  # None: that of the index; of a new one nfc
    damaged: Damaged = "refuse"


def side_folder(output: Folder) -> Folder:
    """Return the folder of the tables that belong to `output`."""
    parent, _, name = output.url.rpartition("/")
    return Folder(f"{parent}/{SIDE}/{name}")


def dedup(source: str, output: str, options: Options, *, profile: str = "laptop") -> DedupSummary:
    """Write the rows of `source` that stay into the new folder `output`.

    Raises:
        InputError: the input cannot be used: no rows, a missing column, mixed columns, repeated ids, an unreadable file.
        StorageError: the output is not empty or cannot be written, or the index is damaged.
        RecipeMismatch: the index was made with other settings.
    """
    if options.method not in THRESHOLDS:
        raise InputError(f"--method {options.method}: found {options.method!r}, expected one of {sorted(THRESHOLDS)}.")
    if options.damaged not in get_args(Damaged):
        raise InputError(f"--damaged {options.damaged}: found {options.damaged!r}, expected one of {get_args(Damaged)}.")
    if options.threshold is None:
        options = replace(options, threshold=THRESHOLDS[options.method])
    folder = places.run_folder(options.index) if options.index else None
    form = _form(options, folder)
    options = replace(options, normalization=form)
    started = time.time()
    writer = ArtifactWriter(places.run_folder(output))
    if writer.final.files():
        raise StorageError(f"{writer.final}: is not empty. Give a new folder, or delete this one.")
    writer.clear()
    side = side_folder(writer.final)
    side.remove()
    resources = load_profile(places.profile_path(profile))
    columns = Columns(options.text_column, options.id_column, options.keep, form, options.damaged)
    matcher = _matcher(options, form, device="cuda" if resources.embedder.gpus else "cpu")
    opened = partial(open_job, source, matcher=matcher, against=options.against, index=folder, at_once=resources.cpu.actors)
    job = opened(columns)
    set_environment(resources)
    with _executors(resources, job) as (executor, signers):
        while True:
            try:
                counts, parts = run(job, writer.folder, side, executor, signers)
                break
            except SchemaDrift:  # later rows have other columns or types than the first ones: all rows are looked at
                if columns.thorough:
                    raise
                columns = replace(columns, thorough=True)
            except IdsMissing:
                columns = replace(columns, text_ids=True)
            job = opened(columns)
    seconds = round(time.time() - started, 2)
    ends = {"input": source, "output": writer.final.url, "side": side.url, "seconds": seconds}
    summary = DedupSummary(**ends, **asdict(options), **counts.model_dump())
    side.write(SUMMARY, summary.model_dump_json(indent=1).encode())
    if writer.folder.url != writer.final.url:
        writer.folder.rename_to(writer.final)
    if job.index:
        job.index.add(parts, counts.rows - sum(counts.rejected.values()))
    return summary


def as_text(summary: DedupSummary) -> str:
    """Return a summary for a person."""
    duplicates = ", ".join(f"{rows:,} {method}" for method, rows in summary.duplicates.items()) or "none"
    rejected = ", ".join(f"{rows:,} {reason}" for reason, rows in summary.rejected.items())
    left_out = f"left out: {rejected}; see {summary.side}/rejects\n" if rejected else ""
    return (
        f"{summary.rows:,} rows in, {summary.kept:,} kept, duplicates: {duplicates}\n{left_out}"
        f"{summary.seconds:.1f} s, {summary.rows / summary.seconds:,.0f} rows a second\n"
        f"{summary.output}\nduplicates: {summary.side}/duplicates.parquet"
    )


def _form(options: Options, index: Folder | None) -> Normalization:
    """Return the Unicode form in which texts are compared: that of the option, else of the index."""
    name = options.normalization or (index and normalization_of(index)) or "nfc"
    for form in get_args(Normalization):
        if form == name:
            return form
    raise InputError(f"--normalization: found {name!r}, expected one of {', '.join(get_args(Normalization))}.")


def _matcher(options: Options, form: Normalization, *, device: str) -> Matcher:
    assert options.threshold is not None
    if options.method == "semantic":
        from engine.inference.locate import locate

        return SemanticMatcher(locate(options.model, root=".", home=places.models_home()), options.threshold, device)
    if options.method == "exact":
        return None
    return Copies(threshold=options.threshold, ngram=NGRAM, num_perm=NUM_PERM, normalization=form)


@contextmanager
def _executors(profile: Profile, job: DedupJob) -> Iterator[tuple[Executor, Executor]]:
    """Yield what runs the functions of `job`, and what computes its signatures: threads of this process where it fits, else Ray."""
    is_semantic = isinstance(job.plan.matcher, SemanticMatcher)
    memory = job.bytes * MEMORY_FACTOR if is_semantic else job.bytes_in_memory
    if is_in_process(profile, memory, gpus=is_semantic and profile.embedder.gpus > 0):
        keep_memory()
        with ThreadPool(profile.cpu.actors) as threads, ThreadPool(1) as one:  # a model's tokenizer serves one thread at a time
            yield threads, one if is_semantic else threads
        return
    from engine.distributed.session import session  # Ray takes a second to import
    from engine.distributed.task_pool import TaskPool

    for name, value in ALLOCATOR.items():
        os.environ.setdefault(name, value)
    with session(_sized(profile, job), data=False):
        yield TaskPool(profile.cpu), TaskPool(profile.embedder if is_semantic else profile.cpu)


def _sized(profile: Profile, job: DedupJob) -> Profile:
    """Return `profile` for a Ray of our own: CPUs for all tasks of a pool, and an object store that holds the signatures."""
    memory = min(job.bytes * MEMORY_FACTOR, psutil.virtual_memory().total * MAX_MEMORY_SHARE) / 2**30
    cpus = max(1, *(math.ceil(pool.actors * pool.cpus) for pool in (profile.cpu, profile.embedder)))
    ray = {"num_cpus": cpus, "object_store_gib": max(memory, profile.ray.object_store_gib)}
    return profile.model_copy(update={"ray": profile.ray.model_copy(update=ray)})
