"""What becomes of each row of INGESTED, in parts: of all rows no task holds a key, an id or a disposition.

    sign      each block returns its signatures, its part of the sample in which shared n-grams are counted, and its ids
    search    groups of blocks are searched for rows with equal ids, and for copies in each round, as `engine/dedup/flow.py` does it
    settle    each group gets the copies among its rows; it returns the dispositions of each block, and ids of the rows that stay
    divide    ids meet by range and are counted, so that each range knows where shards begin in it

A group is one block; of a corpus of more than MOST_GROUPS blocks it is several, and the task that signs it holds 2,200 bytes
(`engine.dedup.plan.GROUP_BYTES`) for each of its rows: 4.3 GB at 10^9 rows. A task that labels a block reads what was decided on
that block, and the bounds of shards: some 90 bytes a shard, a prompt_id as a string of Python. Tasks get all that they read as
arguments; none fetches a result itself.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from engine.contract.prompts import Copies, Prompts
from engine.dedup import flow as similarity
from engine.dedup.flow import Plan
from engine.dedup.minhash import gram_hashes
from engine.dedup.plan import groups
from engine.dedup.shared import Shared
from engine.dedup.signature import SignedBlock
from engine.distributed.executor import Executor
from engine.distributed.rows import Ref
from engine.prompts import copies, tables
from engine.prompts.earlier import EARLIER
from engine.prompts.sources import INGESTED


class Resolution(NamedTuple):
    """All rows, and the table and shard of each, in the object store."""

    blocks: list[Ref]  # INGESTED
    dispositions: list[Ref]  # copies.DISPOSITIONS of the rows of each block
    shard_bounds: Ref  # table -> first prompt_id of each shard but the first
    shared: Ref  # shared.Shared: n-grams that most prompts share, which do not count


class Signed(NamedTuple):
    """References to what each block of INGESTED was signed as."""

    rows: list[Ref]  # copies.SIGNED without what only the sample needs
    samples: list[Ref]  # copies.SAMPLE
    keys: list[Ref]  # tables.SHARD_KEYS


Pieces = list[list[Ref]]
"""For each group, references to the pieces of the table of its duplicates."""


def resolve(
    blocks: Sequence[Ref], rows: int, section: Prompts, executor: Executor, *, rounds: int = 0, parts: int | None = None
) -> Resolution:
    """Return the resolution of about `rows` rows of INGESTED in `blocks`, with `rounds` of synthesis."""
    members = groups(len(blocks))
    signed, shared = _sign_all(blocks, members, section.copies, executor)
    keys = [signed.keys[group] for group in members]
    plan = similarity.plan(rows, section.copies, copies.BEST_FIRST, parts=parts)
    first = EARLIER if section.earlier else 0
    numbers, num_perm = range(first, rounds + 1), section.copies.num_perm
    of_group = [signed.rows[group] for group in members]
    del signed  # signatures are most of what is held beside the rows: they may go once they are searched
    found = find_copies(of_group, plan, executor, rounds=numbers, num_perm=num_perm)
    del of_group
    dispositions, kept = _settle_all(keys, found, plan.node_parts, executor, first=first)
    del found, keys
    return Resolution(list(blocks), dispositions, _divide(kept, section.shard_rows, executor), shared)


def find_copies(
    signed: Sequence[Sequence[Ref]], plan: Plan, executor: Executor, *, rounds: Sequence[int], num_perm: int
) -> tuple[Pieces, list[Pieces]]:
    """Return the rows of SIGNED with a repeated id, and for each round the copies among all rows up to it.

    `signed` has the blocks of each group.
    """
    sizes = [len(group) for group in signed]

    def search(sign: Callable[..., SignedBlock], plan: Plan, pieces: Pieces) -> Pieces:
        args = [[*group, *mine] for group, mine in zip(signed, pieces, strict=True)]
        signatures = similarity.compute_signatures(sizes, plan, executor, compute=partial(_sign_group, sign), args=args)
        return similarity.by_block(similarity.find_duplicates(signatures, plan, executor), len(sizes), executor)

    by_id = plan._replace(matcher=None, order=[("id", "ascending")], key_parts=1)
    repeated = search(copies.by_source_id, by_id, [[] for _ in sizes])
    return repeated, [search(partial(copies.by_text, last=last, num_perm=num_perm), plan, repeated) for last in rounds]


def labelled(function: Callable[..., Any], block: pa.Table, dispositions: pa.Table, shard_bounds: Any, *more: Any) -> Any:
    """Return what `function` makes of a block of INGESTED as LABELLED, with `more` arguments."""
    return function(tables.label(_whole(block), dispositions, shard_bounds), *more)


def _sign_all(blocks: Sequence[Ref], members: Sequence[slice], section: Copies, executor: Executor) -> tuple[Signed, Ref]:
    """Return what `blocks` were signed as, without the n-grams that most prompts share, and a reference to these (`Shared`)."""
    signed = _sign_once(blocks, section, executor, None)
    samples = [executor.start(_sample, *signed.samples[group])[0] for group in members]
    count, shared, ignored = executor.start(_shared, section, *samples, returns=3)
    if executor.fetch(count):
        del signed, samples
        signed = _sign_once(blocks, section, executor, ignored)
    return signed, shared


def _sign_once(blocks: Sequence[Ref], section: Copies, executor: Executor, ignored: Ref | None) -> Signed:
    signed = [executor.start(_sign, section, ignored, block, returns=3) for block in blocks]
    return Signed(*([of_block[number] for of_block in signed] for number in range(3)))


def _settle_all(
    keys: Sequence[Sequence[Ref]], found: tuple[Pieces, list[Pieces]], parts: int, executor: Executor, *, first: int
) -> tuple[list[Ref], Pieces]:
    """Return references to the dispositions of each block, and to the kept ids of each group in `parts` ranges."""
    repeated, rounds = found
    dispositions: list[Ref] = []
    kept: Pieces = []
    for number, blocks in enumerate(keys):
        given = [blocks, repeated[number], *(of_round[number] for of_round in rounds)]
        sizes = [len(refs) for refs in given]
        refs = executor.start(_settle, first, parts, sizes, *chain(*given), returns=len(blocks) + parts)
        dispositions += refs[: len(blocks)]
        kept.append(refs[len(blocks) :])
    return dispositions, kept


def _divide(kept: Pieces, shard_rows: int, executor: Executor) -> Ref:
    """Return a reference to the bounds of all shards; `kept` has the kept ids of each group by range."""
    ranges = [executor.start(tables.sorted_ids, *of_range, returns=2) for of_range in zip(*kept, strict=True)]
    bounds, before = [], Counter[str]()
    for rows, (_, ids) in zip(executor.fetch([rows for rows, _ in ranges]), ranges, strict=True):
        bounds += executor.start(_bounds, shard_rows, dict(before) or dict.fromkeys(tables.SPLITS, 0), ids)
        before.update(rows)
    return executor.start(_joined, *bounds)[0]


def _whole(block: pa.Table) -> pa.Table:
    return block if block.num_rows else INGESTED.empty_table()  # a block of Ray's without rows may lack the columns


def _sign(section: Copies, ignored: np.ndarray | None, block: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    signed = copies.sign(_whole(block), section, ignored)
    return copies.without_text(signed), copies.sample(signed), signed.select(tables.SHARD_KEYS.names)


def _sample(*samples: pa.Table) -> pa.Table:
    return samples[0] if len(samples) == 1 else copies.joint_sample(samples)


def _shared(section: Copies, *samples: pa.Table) -> tuple[int, Shared, np.ndarray]:
    """Return how many n-grams are shared, what is, and the hashes of these n-grams, which every task that signs reads."""
    shared = copies.shared_ngrams(pa.concat_tables(samples), section)
    return len(shared.grams), shared, gram_hashes(shared.grams)


def _sign_group(sign: Callable[..., SignedBlock], blocks: int, *given: pa.Table) -> SignedBlock:
    """Return what `sign` makes of the SIGNED rows of `blocks` blocks, and of the pieces that follow them."""
    return sign(pa.concat_tables(given[:blocks]), *given[blocks:])


def _settle(first: int, parts: int, sizes: Sequence[int], *given: pa.Table) -> list[pa.Table]:
    """Return DISPOSITIONS of each block of a group, and its kept ids by range, see `tables.kept_by_range`.

    Given are SHARD_KEYS of each block, then the pieces of the group's rows with a repeated id, then those of its copies in each
    round from `first`, in numbers of `sizes`.
    """
    following = iter(given)
    keys, repeated, *rounds = ([next(following) for _ in range(size)] for size in sizes)
    dispositions = copies.resolve(repeated, rounds, first=first)
    return [*tables.of_blocks(dispositions, keys), *tables.kept_by_range(pa.concat_tables(keys), dispositions, parts)]


def _bounds(shard_rows: int, before: dict[str, int], ids: dict[str, pa.ChunkedArray]) -> dict[str, list[str]]:
    return tables.shard_bounds(ids, before, shard_rows=shard_rows)


def _joined(*of_ranges: dict[str, list[str]]) -> dict[str, list[str]]:
    return {table: [bound for bounds in of_ranges for bound in bounds[table]] for table in tables.SPLITS}
