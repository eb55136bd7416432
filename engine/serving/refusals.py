"""Why a worker gives no completion of a request."""


class Busy(Exception):
    """The queue is full, or the request would wait beyond its deadline; nothing was computed for it."""

    def __init__(self, why: str, retry_after: int) -> None:
        super().__init__(f"{why} Try again in {retry_after} s.")
        self.retry_after = retry_after


class Expired(Exception):
    """A request was not completed by its deadline."""


class Unavailable(Exception):
    """The engine is loading, has failed, or stops."""


class EngineFault(Exception):
    """The engine failed while it computed a request."""
