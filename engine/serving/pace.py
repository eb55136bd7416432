"""Whether a request can be answered by its deadline, from how fast the last ones were.

A busy engine completes a request every `seconds`, on the average: each step's time is shared by the requests that run, so that a
request's shares sum to that whatever the size of the batch. One that n others are before is completed after (n + 1) times `seconds`
(Little's law). What counts is the clock from one step to the next, not the engine's own time: waiting for a busy
machine slows requests just as computing does.

An engine may become slower after requests were admitted. So those that wait are looked at again, and the caution with which further
ones are admitted follows the promises that were broken, as TCP's window follows losses: it settles where about one in 25 is.
"""

import math

RECENT = 0.1  # weight of the newest request in the running mean
LEAST_CAUTION, MOST_CAUTION = 1.25, 4.0  # times the expected wait that must fit into a deadline
BROKEN, KEPT = 1.05, 0.998  # what a broken and a kept promise multiply the caution by
LONGEST = 60  # seconds after which a refused caller is told to try again, at most


class Pace:
    """How fast an engine completes requests."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """Between two completions, running mean; 0 before the first."""
        self.caution = LEAST_CAUTION
        self.mark = 0.0

    def resume(self, now: float) -> None:
        """Start the clock after the engine had nothing to do. All times are of `time.monotonic`."""
        self.mark = now

    def step(self, now: float) -> float:
        """Return the seconds since the end of the last step, or since `resume`."""
        passed, self.mark = now - self.mark, now
        return passed

    def completed(self, seconds: float) -> None:
        """Count a request that was completed in time, and whose shares of the steps sum to `seconds`."""
        self._measure(seconds)
        self.caution = max(LEAST_CAUTION, self.caution * KEPT)

    def broken(self, seconds: float = 0.0) -> None:
        """Count a request that was admitted and not answered in time. `seconds`: its shares so far; it would have taken more."""
        self._measure(max(self.seconds, seconds))
        self.caution = min(MOST_CAUTION, self.caution * BROKEN)

    def given_up(self, seconds: float) -> None:
        """Count a request whose caller has gone; it would have taken more than its shares so far, `seconds`."""
        self._measure(max(self.seconds, seconds))

    def expected(self, ahead: int) -> float:
        """Return the seconds until a request is completed that `ahead` others are before."""
        return (ahead + 1) * self.seconds

    def is_late(self, ahead: int, left: float) -> bool:
        """Whether a request that arrives with `left` seconds until its deadline should be refused. One alone is tried."""
        return ahead > 0 and self.caution * self.expected(ahead) > left

    def retry_after(self, ahead: int) -> int:
        """Return the whole seconds until there is room again: what is ahead is completed."""
        return min(LONGEST, max(1, math.ceil(ahead * self.seconds)))

    def _measure(self, seconds: float) -> None:
        self.seconds += (seconds - self.seconds) * (RECENT if self.seconds else 1)
