"""The real flows of deduplication, run in this process instead of on Ray."""

import pyarrow as pa

from engine.contract.prompts import Copies
from engine.dedup import flow
from engine.dedup.representatives import Order
from engine.dedup.signature import Matcher, SignedBlock
from engine.distributed.executor import InProcess
from engine.prompts import copies as prompts
from engine.prompts import flow as prompts_flow


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
    repeated, rounds = prompts_flow.find_copies([signed], plan, executor, rounds=last, num_perm=copies.num_perm)
    return prompts.resolve(executor.fetch(repeated), [executor.fetch(copies_of) for copies_of in rounds])
