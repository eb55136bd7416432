"""Errors as OpenAI's API writes them: `{"error": {"message", "type", "param", "code"}}`."""

from typing import NamedTuple

TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 504: "timeout_error"}


class ErrorBody(NamedTuple):
    """The fields of an error."""

    message: str
    type: str
    param: str | None
    code: str


class ApiError(Exception):
    """A request that ends with an error, and what the caller is told."""

    def __init__(self, status: int, code: str, message: str, *, param: str | None = None, retry_after: int | None = None) -> None:
        """`param` names the part of the request that is wrong, `retry_after` the seconds to wait."""
        super().__init__(message)
        self.status, self.code, self.message, self.param, self.retry_after = status, code, message, param, retry_after

    @property
    def body(self) -> dict[str, dict[str, str | None]]:
        """The JSON of the reply."""
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": ErrorBody(self.message, kind, self.param, self.code)._asdict()}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the reply."""
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        return headers | ({"www-authenticate": "Bearer"} if self.status == 401 else {})


def wrong(param: str, message: str, code: str = "invalid_value") -> ApiError:
    """Return the error of a request whose part `param` is wrong."""
    return ApiError(400, code, f"{param}: {message}", param=param)
