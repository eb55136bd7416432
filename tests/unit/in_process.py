"""The real flows of deduplication, run in this process instead of on Ray."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engine.contract.prompts import Copies
from engine.dedup import flow
from engine.dedup.representatives import Order
from engine.dedup.signature import Matcher, SignedBlock
from engine.prompts import copies as prompts
from engine.prompts import flow as prompts_flow


@dataclass(frozen=True)
class Done:
    """A reference to a result of `InProcess`."""

    value: Any


class InProcess:
    """Calls each function at once, in this process."""

    def start(self, op: Callable[..., Any], *args: Any, returns: int = 1) -> list[Done]:
        """See `Executor.start`."""
        result = op(*(arg.value if isinstance(arg, Done) else arg for arg in args))
        values = list(result) if returns > 1 else [result]
        assert len(values) == returns, f"{op} returned {len(values)} values, expected {returns}"
        return [Done(value) for value in values]

    def fetch(self, refs: Any) -> Any:
        """See `Executor.fetch`."""
        return [ref.value for ref in refs] if isinstance(refs, list) else refs.value


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
    repeated, rounds = prompts_flow.find_copies([signed], plan, executor, rounds=range(last + 1), num_perm=copies.num_perm)
    return prompts.resolve(executor.fetch(repeated), [executor.fetch(copies_of) for copies_of in rounds])
