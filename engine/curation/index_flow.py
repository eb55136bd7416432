"""The protected texts and their n-gram index on Ray or in threads. Of all prompts no task holds more than samples of groups."""

from collections.abc import Sequence

import pyarrow as pa

from engine.contract.curation import Curation
from engine.contract.profile import Pool
from engine.curation import ngram_index
from engine.curation.answers import SCAN_ROWS
from engine.dedup.shared import merge
from engine.distributed import gather, stream
from engine.distributed.in_process import executor
from engine.distributed.rows import Ref, Rows
from engine.storage.artifact import Artifact


def protected_texts(prompts: Artifact, lists: Rows | None, pool: Pool) -> Rows:
    """Return PROTECTED of the table holdout and of evaluation lists, which are read like sources."""
    columns = ["prompt_id", "text", "reference"]
    holdout = stream.scan(prompts, "holdout", pool, rows=SCAN_ROWS, columns=columns)
    holdout = stream.apply(holdout, ngram_index.protected, pool, name=ngram_index.HOLDOUT)
    return (holdout.union(stream.apply(lists, ngram_index.protected, pool)) if lists else holdout).materialize()


def index_of(protected: Rows, prompts: Artifact, section: Curation, pool: Pool, paths: Sequence[str] = ()) -> Ref:
    """Return a reference to the n-gram index of PROTECTED, with the n-grams that most `prompts` share.

    They are counted in a sample: of each block of prompts, then of groups of blocks, then of all. `paths` are those of the
    contract's sources: files of one of them count together.
    """
    samples = []
    for split, name in ngram_index.SPLITS.items():
        if not (table := prompts.record.tables.get(name)) or not table.shards:
            continue
        rows = stream.scan(prompts, name, pool, rows=SCAN_ROWS, columns=["text", "source", "task_unit"])
        samples += stream.apply(rows, ngram_index.sample_prompts, pool, split=split, paths=paths).materialize().to_arrow_refs()
    sampled = gather.merge(merge, samples, executor(pool))
    return gather.run(_index, (protected, ngram_index.PROTECTED), sampled=sampled, section=section)


def _index(texts: pa.Table, sampled: pa.Table, section: Curation) -> ngram_index.NgramIndex:
    return ngram_index.with_shared(ngram_index.build_index(texts, section.decontaminate), sampled, section)
