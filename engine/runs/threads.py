"""Functions that run at the same time, in threads of this process."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait

SIGNAL_SECONDS = 0.5  # at most this long after Ctrl-C, those that wait are told


def at_once(calls: Mapping[str, Callable[[], object]]) -> dict[str, Exception]:
    """Call all of `calls` at the same time, and return after the end of all which have failed, by their names.

    Raises:
        BaseException: an interrupt, of this thread or of one of the calls.
    """
    threads = ThreadPoolExecutor(len(calls))
    try:
        tasks = {name: threads.submit(call) for name, call in calls.items()}
        while wait(tasks.values(), timeout=SIGNAL_SECONDS).not_done:  # a wait without end can miss a signal that comes as it begins
            pass
    finally:
        threads.shutdown(wait=False)  # at Ctrl-C the session must end first: the calls wait for what it holds
    failures: dict[str, Exception] = {}
    for name, task in tasks.items():
        failure = task.exception()
        if isinstance(failure, Exception):
            failures[name] = failure
        elif failure:  # an interrupt is no failure of one call
            raise failure
    return failures
