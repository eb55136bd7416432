"""The real flows of deduplication, run in this process instead of on Ray."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyarrow as pa

from engine.contract.curation import Curation
from engine.contract.prompts import Copies
from engine.curation import decide_flow
from engine.curation.contamination import Resemblance
from engine.curation.dispositions import DISPOSITION
from engine.curation.ngram_index import PROTECTED
from engine.dedup import flow
from engine.dedup.representatives import Order
from engine.dedup.signature import Matcher, SignedBlock
from engine.distributed.thread_pool import Ref
from engine.prompts import copies as prompts
from engine.prompts import resolve_flow
from engine.records.dataset import Selection, TopicCluster


class InProcess:
    """Calls each function at once, in this process."""

    def start(self, op: Callable[..., Any], *args: Any, returns: int = 1) -> list[Ref]:
        """See `Executor.start`."""
        result = op(*(arg.result() if isinstance(arg, Ref) else arg for arg in args))
        values = list(result) if returns > 1 else [result]
        assert len(values) == returns, f"{op} returned {len(values)} values, expected {returns}"
        return [Ref.of(value) for value in values]

    def fetch(self, refs: Any) -> Any:
        """See `Executor.fetch`."""
        return [ref.result() for ref in refs] if isinstance(refs, list) else refs.result()


def itself(block: SignedBlock) -> SignedBlock:
    return block


def duplicates(signed: SignedBlock, matcher: Matcher, order: Order, *, parts: int | None = None) -> pa.Table:
    """Return the duplicates among the documents of `signed`."""
    plan, executor = flow.plan(len(signed.text_keys), matcher, order, parts=parts), InProcess()
    signatures = flow.compute_signatures([signed], plan, executor, compute=itself)
    return pa.concat_tables(executor.fetch(flow.find_duplicates(signatures, plan, executor).duplicates))


def dispositions(signed: pa.Table, copies: Copies) -> pa.Table:
    """Return DISPOSITIONS of the SIGNED prompts."""
    executor, last = InProcess(), max(signed["round"].to_pylist())
    plan = flow.plan(len(signed), copies, prompts.BEST_FIRST)
    repeated, rounds = resolve_flow.find_copies([[signed]], plan, executor, rounds=range(last + 1), num_perm=copies.num_perm)
    return prompts.resolve(executor.fetch(repeated[0]), [executor.fetch(copies_of[0]) for copies_of in rounds])


class Decided(NamedTuple):
    """What `decide` decided."""

    dispositions: pa.Table
    clusters: tuple[TopicCluster, ...]
    selection: Selection | None
    resemblance: list[Resemblance]


def decide(embedded: pa.Table, section: Curation, protected: pa.Table | None = None, *, blocks: int = 1) -> Decided:
    """Return what is decided on EMBEDDED, which is given in `blocks`; `protected` is PROTECTED with `embedding`."""
    executor, size = InProcess(), -(-len(embedded) // blocks) or 1
    given = [Ref.of(embedded.slice(start, size)) for start in range(0, max(1, len(embedded)), size)]
    texts = Ref.of(PROTECTED.empty_table() if protected is None else protected)
    found = decide_flow.decide_all(decide_flow.shards_of(given, len(embedded), texts, section, executor), section, executor)
    tables = [DISPOSITION.empty_table(), *executor.fetch(found.dispositions)]
    clusters, selection = executor.fetch(found.summary) if found.summary else ((), None)
    return Decided(pa.concat_tables(tables), clusters, selection, executor.fetch(found.resemblance))
