"""A chat completions server on the loopback that refuses every request, or every request with certain keys."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER = {
    "choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
}
EVERY_REQUEST = {
    "400": (400, {"error": {"message": "the deployment is being retired"}}),
    "400 too long": (400, {"error": {"message": "max_tokens is too large for the maximum context length of 5 tokens"}}),
    "401": (401, {"error": {"message": "bad key"}}),
    "402": (402, {"error": {"message": "no credit"}}),
    "403": (403, {"error": {"message": "your region is not served"}}),
    "404": (404, {"error": {"message": "no such model"}}),
    "413": (413, b"<html>nginx: body over 1 kB</html>"),
    "422": (422, {"detail": "unprocessable"}),
    "429": (429, {"error": {"message": "too many"}}),
    "500": (500, {"error": {"message": "boom"}}),
    "200 error": (200, {"error": {"message": "upstream is gone", "code": 502}}),
    "200 html": (200, b"<html>log in</html>"),
}


class Server(ThreadingHTTPServer):
    """Answers with `status` and `body`, or the body of the prompt in `by_prompt`; with 400 if a key is one of `rejects`, with 422
    if a prompt begins with "bad"."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.body = 200, ANSWER
        self.rejects: tuple[str, ...] = ()
        self.bodies: list[dict[str, Any]] = []
        self.by_prompt: dict[str, Any] = {}
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(request)
        status, body = self.server.status, self.server.by_prompt.get(request["messages"][-1]["content"], self.server.body)
        if request["messages"][-1]["content"].startswith("bad"):
            status, body = 422, {"error": {"message": "this text cannot be taken"}}
        if rejected := [key for key in self.server.rejects if key in request]:
            status, body = 400, {"error": {"message": f"Unrecognized request argument supplied: {rejected[0]}"}}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Write no log."""
