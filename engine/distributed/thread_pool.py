"""Pure functions in threads of this process: what fits one machine needs no cluster, no other process and no copy of its data.

The functions spend their time in Arrow, NumPy and numba, which release Python's lock.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self


class Ref(Future):
    """A reference to a result."""

    @classmethod
    def of(cls, value: Any) -> "Ref":
        """Return a reference to `value`."""
        ref = cls()
        ref.set_result(value)
        return ref


class ThreadPool:
    """Runs pure functions in at most `threads` threads, in the order in which they were started; use it in a `with` statement."""

    def __init__(self, threads: int) -> None:
        self.size = threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="executor")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Drop the functions that have not begun, and wait for the others: after an error nothing writes any more."""
        self._threads.shutdown(cancel_futures=True)

    def start(self, op: Callable[..., Any], *args: Any, returns: int = 1) -> list[Ref]:
        """See `Executor.start`. References among `args` must be those of functions that were started before, here or elsewhere.

        So no function waits for one that has not begun.
        """
        refs = [Ref() for _ in range(returns)]
        self._threads.submit(_run, op, args, refs)
        return refs

    def fetch(self, refs: Any) -> Any:
        """See `Executor.fetch`."""
        return [ref.result() for ref in refs] if isinstance(refs, list) else refs.result()


def _run(op: Callable[..., Any], args: Sequence[Any], refs: Sequence[Ref]) -> None:
    """Set `refs`, each of which keeps its own value only, so that a large one is freed once nobody refers to it."""
    try:
        result = op(*(arg.result() if isinstance(arg, Ref) else arg for arg in args))
        for ref, value in zip(refs, result if len(refs) > 1 else [result], strict=True):
            ref.set_result(value)
    except Exception as error:
        for ref in refs:
            if not ref.done():
                ref.set_exception(error)
