"""One client for all paid work: a ledger and a token budget around a model that is loaded when it is first needed.

`ModelClient.answer` maps requests, keyed by a content hash, to rows of a ledger:

1. Rows that the ledger holds are returned; no request is paid for twice.
2. If the token budget is exhausted, the remaining requests are left out of the result.
3. The others go to the engine, batch by batch, under crash isolation. A request that crashes the engine alone gets the row
   `crashed` and is not asked again.
4. The token usage is noted, then the rows are recorded, then they are returned. A process that dies in between pays again, and
   what it paid counts twice. A row that may be retried is returned and not recorded; `lost` names it.

The client does not know what is paid for: completions, probabilities of choices and losses are rows of a schema, made by a `Call`.

`answer` blocks. An asynchronous server collects requests into batches and awaits `asyncio.to_thread(client.answer, ...)` inside
one open `block`; one thread at a time may be in `answer`, because crash isolation watches one call of the process.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Generic, NamedTuple, TypeVar

import pyarrow as pa

from engine.calls import LOADING, ModelCall, called
from engine.contract.models import Model
from engine.contract.profile import Pool
from engine.inference.crash_isolation import CrashIsolator
from engine.inference.engine import LIBRARIES, Completion, Engine, Lost, build_model
from engine.inference.identity import identity
from engine.inference.ledger import Ledger
from engine.inference.token_budget import TokenBudget, TokenUsage
from engine.inference.weights import Weights, local
from engine.rows import Row
from engine.safe_points import safe_point
from engine.storage.folder import Folder

T = TypeVar("T")
CRASHED = Completion("", "error", 0, 0, error="killed its engine, alone and in every batch that it was part of")


class Batch(NamedTuple):
    """What one call of an engine returned."""

    rows: Sequence[Row]
    """One for each request: the columns of the ledger, the two ids left out."""
    usage: TokenUsage
    retryable: Sequence[bool] = ()
    """For each request, whether its row must not be recorded because it may be asked again; empty = none may."""


Call = Callable[[Engine, Sequence[T]], Batch]
"""Asks an engine for a batch of requests, in order."""


@dataclass(frozen=True)
class ClientSpec:
    """A model and where its paid work is kept; plain picklable values."""

    model: Model
    pool: Pool
    weights: Weights | None
    """Where the model's files lie; None for a model that has none."""
    ledger: Folder
    """Rows that were paid for, perhaps by other runs too."""
    markers: Folder
    """In-flight markers of this run's processes."""
    budget: Folder
    """Token usage of all clients that share the budget."""
    cap: int | None = None
    """Tokens that all clients of `budget` may use; None = no cap."""
    payee: str = ""
    """Name under which the token usage is noted."""

    @property
    def has_engine(self) -> bool:
        """Whether the model is loaded into the process that asks it, or one beside it: not that of a server."""
        return self.model.type not in ("endpoint", "fake")

    @property
    def libraries(self) -> tuple[str, ...]:
        """Modules that take long to import, and that the process needs which asks the model."""
        return LIBRARIES.get(self.model.type, ())


class ModelClient(Generic[T]):
    """Answers requests with one model, each once."""

    def __init__(
        self,
        spec: ClientSpec,
        schema: pa.Schema,
        *,
        prompt_id: Callable[[T], str],
        crashed: Callable[[T], Row],
        wrap: Callable[[Engine], Engine] | None = None,
    ) -> None:
        """`schema` is the ledger's; its first column is the prompt's id, its second one the key of a request.

        `crashed` returns the row of a request that crashes the engine, `wrap` the engine to use in place of the loaded one.
        """
        self.spec, self.schema, self.prompt_id, self.crashed, self.wrap = spec, schema, prompt_id, crashed, wrap
        self.partition_key, self.key, *_ = schema.names
        self.identity = identity(spec.model, spec.weights)
        self.ledger = Ledger(spec.ledger, schema, key=self.key, partition_key=self.partition_key)
        # Each request to a server has a deadline of its own; a batch of many may well take longer than one that hangs.
        hang_seconds = None if spec.model.type == "endpoint" else spec.pool.hang_seconds
        self.isolator = CrashIsolator(spec.markers, hang_seconds=hang_seconds, at_once=spec.pool.max_num_seqs)
        self.budget = TokenBudget(spec.budget, spec.cap)
        self.lost: set[str] = set()
        """Of the last call of `answer`: keys of the rows that are no results, and are asked for again another time."""
        self.engine: Engine | None = None
        self.lender: ModelClient[Any] | None = None
        """Another client of this process with the same model: its engine is used, as a process has memory for one."""

    def block(self, prompt_ids: Iterable[str]) -> AbstractContextManager[None]:
        """Hold the ledger's rows of some prompts in memory; `find` and `answer` are called inside."""
        return self.ledger.block(prompt_ids)

    def find(self, keys: Iterable[str]) -> dict[str, Row]:
        """Return key -> row of each request that the ledger holds."""
        return self._by_key(self.ledger.find(keys))

    def answer(
        self, requests: Mapping[str, T], call: Call[T], *, batch: int | None = None, payee: str = "", capped: bool = True
    ) -> dict[str, Row]:
        """Return key -> row of each request, from the ledger or paid for now; a request that the budget did not reach is left out.

        Unpaid requests are sent in batches of at most `batch`, all together by default. The budget is checked before each batch,
        unless `capped` is false. `payee` replaces the spec's.

        Raises:
            ModelError: the model cannot be loaded.
        """
        rows, self.lost = self.find(requests), set()
        missing = [key for key in requests if key not in rows]
        for keys in even(missing, batch or max(1, len(missing))):
            if capped and self.budget.is_exhausted():
                break
            safe_point()
            rows |= self._pay({key: requests[key] for key in keys}, call, payee or self.spec.payee)
        return rows

    def _pay(self, requests: Mapping[str, T], call: Call[T], payee: str) -> dict[str, Row]:
        keys, rows = list(requests), dict[str, Row]()
        engine = self._load()  # before the first batch: a crash while loading is no fault of a request

        def attempt(positions: Sequence[int]) -> None:
            batch = {keys[position]: requests[keys[position]] for position in positions}
            engine.reset_prefix_cache()
            start = time.perf_counter()
            result = call(engine, list(batch.values()))
            called(ModelCall(f"{self.key} {self.identity}", time.perf_counter() - start, *result.usage))
            self.budget.add(payee, result.usage)
            rows.update(self._record(batch, result.rows, result.retryable))

        def give_up(position: int) -> None:
            key = keys[position]
            rows.update(self._record({key: requests[key]}, [self.crashed(requests[key])]))

        self.isolator(keys, attempt, give_up)
        return rows

    def _record(self, requests: Mapping[str, T], rows: Sequence[Row], retryable: Sequence[bool] = ()) -> dict[str, Row]:
        """Return the rows as the ledger returns them later, once those that were paid for are durable."""
        ids = [{self.partition_key: self.prompt_id(request), self.key: key} for key, request in requests.items()]
        table = pa.Table.from_pylist([row | row_ids for row, row_ids in zip(rows, ids, strict=True)], schema=self.schema)
        is_paid = [not may_retry for may_retry in retryable] or [True] * len(ids)
        self.lost |= {key for key, paid in zip(requests, is_paid, strict=True) if not paid}
        self.ledger.record(table.filter(pa.array(is_paid, pa.bool_())))
        return self._by_key(table)

    def _by_key(self, table: pa.Table) -> dict[str, Row]:
        return {row[self.key]: row for row in table.to_pylist()}

    def _load(self) -> Engine:
        if self.lender is not None:
            return self.lender._load()
        if self.engine is None:
            build = partial(build_model, self.spec.model, self.spec.pool, folder=local(self.spec.weights))
            start = time.perf_counter()
            engine = self.isolator.load(build, self.spec.model.path)
            called(ModelCall(LOADING, time.perf_counter() - start))
            self.engine = self.wrap(engine) if self.wrap else engine
        return self.engine


def completed(completions: Sequence[Completion], rows: Sequence[Row]) -> Batch:
    """Return the batch of `completions` and their rows. Retryable and too long ones did not reach a model and use no tokens."""
    paid = [answer for answer in completions if not answer.retryable and answer.finish_reason != "too_long"]
    usage = TokenUsage(len(paid), sum(answer.tokens_in for answer in paid), sum(answer.tokens_out for answer in paid))
    return Batch(rows, usage, [answer.retryable for answer in completions])


def measured(measure: Callable[[Engine, Sequence[T]], Sequence[object]], column: str) -> Call[T]:
    """Return a call that keeps the value which `measure` returns for each request in `column`; a `Lost` one becomes retryable.

    Each value counts as one token out; the tokens in are those that the engine has read meanwhile.
    """

    def call(engine: Engine, requests: Sequence[T]) -> Batch:
        before = engine.tokens_read
        values = measure(engine, requests)
        lost = [isinstance(value, Lost) for value in values]
        paid = lost.count(False)
        rows = [{column: None if is_lost else value} for value, is_lost in zip(values, lost, strict=True)]
        return Batch(rows, TokenUsage(paid, engine.tokens_read - before, paid), lost)

    return call


def even(keys: Sequence[str], most: int) -> list[Sequence[str]]:
    """Return `keys` in as few batches of at most `most` as possible, of nearly equal size: a half-filled batch costs as much."""
    count = -(-len(keys) // most)
    cuts = [len(keys) * number // count for number in range(count + 1)] if keys else []
    return [keys[start:stop] for start, stop in pairwise(cuts)]
