"""Examples of kept rows on Ray or in threads: with their variants, contrastive examples and preference pairs."""

from typing import NamedTuple

import pyarrow as pa

from engine.contract.curation import Curation
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist
from engine.curation import contrastive, prompt_answers, swaps
from engine.curation.answers import LabelledCandidates
from engine.curation.flow import with_dispositions, with_refs
from engine.curation.pairs import pairs
from engine.curation.repair import Repair, RepairSpec
from engine.curation.represent import examples
from engine.distributed import gather, stream
from engine.distributed.in_process import executor
from engine.distributed.rows import Ref, Rows
from engine.rows import EXAMPLE, PREFERENCE
from engine.storage.folder import Folder

ROWS_PER_SHARD = 50_000


class KeptRows(NamedTuple):
    """Which candidates are kept, how many, and their weights."""

    answers: LabelledCandidates
    dispositions: list[Ref]  # of each block, see `flow.Decisions`
    rows: int
    weights: dict[str, float]  # value of the balanced stratum -> weight; {} without balance


class ExampleSpec(NamedTuple):
    """How examples are made, and on which pool."""

    specialist: Specialist
    section: Curation
    pool: Pool


class RepairStage(NamedTuple):
    """The model that repairs failed answers, and the protected texts."""

    spec: RepairSpec
    protected: Ref  # ngram_index.NgramIndex


def write_examples(
    kept: KeptRows, folder: Folder, *, spec: ExampleSpec, index: Ref, contrastive: Rows | None = None
) -> stream.Written:  # fmt: skip
    """Write the kept rows, their variants and the `contrastive` examples as EXAMPLE, in shards sorted by example_id.

    `index` is that of the protected texts (`index_of`): no variant may resemble one.
    """
    options = {"specialist": spec.specialist, "section": spec.section, "weights": kept.weights}
    rows = kept.answers.scan(kept.dispositions, _examples, spec.pool, **options)
    rows = _with_swaps(rows, index, spec) if spec.section.swaps else rows
    variants = spec.section.swaps.per_example if spec.section.swaps else 0
    shards = 1 + kept.rows * (1 + variants) // ROWS_PER_SHARD
    rows = stream.apply(rows.union(contrastive) if contrastive else rows, _sharded, spec.pool, shards=shards)
    rows = rows.repartition(min(shards, 200), keys=["shard"])
    return stream.write(rows, stream.Target(folder, EXAMPLE, label="split", shard=["shard"]), spec.pool)


def answers_by_prompt(kept: KeptRows, index: Ref, spec: ExampleSpec) -> Rows:
    """Return prompt_answers.COLUMNS of every answer that is not contaminated, each prompt whole in one block."""
    rows = kept.answers.scan(kept.dispositions, with_dispositions, spec.pool)
    options = {"function": prompt_answers.drop_contaminated, "refs": [index], "section": spec.section}
    rows = stream.apply(rows, with_refs, spec.pool, **options)
    return rows.repartition(kept.answers.partitions, keys=["prompt_id"])


def write_preferences(answers: Rows, folder: Folder, *, spec: ExampleSpec) -> stream.Written:
    """Write the pairs of `answers_by_prompt` as PREFERENCE, counted by reason."""
    rows = stream.apply(answers, pairs, spec.pool, specialist=spec.specialist, section=spec.section)
    return stream.write(rows, stream.Target(folder, PREFERENCE, label="reason"), spec.pool)


def contrastive_examples(answers: Rows, kept: KeptRows, spec: ExampleSpec, repair: RepairStage | None = None) -> Rows:
    """Return contrastive EXAMPLE rows of `answers_by_prompt`, at most the share that the contract allows."""
    options = {"specialist": spec.specialist, "section": spec.section}
    examples = stream.apply(answers, contrastive.contrastive_examples, spec.pool, **options)
    if repair:
        unsolved = _limited(stream.apply(answers, contrastive.unsolved, spec.pool, **options), kept, spec)
        repaired = stream.apply(unsolved, Repair, repair.spec.client.pool, spec=repair.spec)
        filtering = {"function": prompt_answers.drop_contaminated_targets, "refs": [repair.protected], "section": spec.section}
        examples = examples.union(stream.apply(repaired, with_refs, spec.pool, **filtering))
    return _limited(examples, kept, spec)


def _limited(examples: Rows, kept: KeptRows, spec: ExampleSpec) -> Rows:
    """Return at most the allowed share of the examples, chosen by hash: the highest hash is looked for in a range of hashes."""
    examples, seed = examples.materialize(), spec.section.seed
    count = contrastive.max_contrastive(kept.rows, spec.section.contrastive_share)
    ranks = stream.apply(examples.select_columns(["example_id"]), contrastive.ranks, spec.pool, seed=seed)
    tasks, blocks = executor(spec.pool), ranks.materialize().to_arrow_refs()
    [last] = tasks.start(contrastive.last, count, *(tasks.start(contrastive.counted, block)[0] for block in blocks))
    near = [tasks.start(contrastive.near, last, block)[0] for block in blocks]
    [highest] = tasks.start(contrastive.highest, last, *near)
    return stream.apply(examples, with_refs, spec.pool, function=contrastive.up_to, refs=[highest], seed=seed)


def _with_swaps(rows: Rows, index: Ref, spec: ExampleSpec) -> Rows:
    """Return the examples and their variants. A task holds swaps.VALUE of some blocks."""
    rows = rows.materialize()
    of_blocks = stream.apply(rows.select_columns(swaps.READ.names), swaps.values_of, spec.pool, specialist=spec.specialist)
    values = gather.merge(swaps.merged, of_blocks.materialize().to_arrow_refs(), executor(spec.pool))
    options = {"specialist": spec.specialist, "section": spec.section}
    made = stream.apply(rows, with_refs, spec.pool, function=swaps.swapped, refs=[values], **options)
    filtering = {"function": prompt_answers.drop_contaminated_examples, "refs": [index], "section": spec.section}
    return rows.union(stream.apply(made, with_refs, spec.pool, **filtering))


def _examples(
    rows: pa.Table, dispositions: pa.Table, specialist: Specialist, section: Curation, weights: dict[str, float]
) -> pa.Table:
    return examples(with_dispositions(rows, dispositions), specialist, section.pick, seed=section.seed, weights=weights)


def _sharded(examples: pa.Table, shards: int) -> pa.Table:
    numbers = [int(name[:8], 16) * shards >> 32 for name in examples["example_id"].to_pylist()]
    return examples.append_column("shard", pa.array(numbers, pa.int64()))
