#!/usr/bin/env bash
# An error body with status 200 is returned as a completion.
#
# Guess: the client raises where the server answers with {"error": ...}, or with a page that is no JSON.
# Seen:  with status 200 the first is a ChatCompletion whose choices are None, the second a plain str. Nothing is raised.
# With:  openai 3.54.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openai==3.54.0
"$folder/venv/bin/python" - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai

BODIES = {
    "error": ("application/json", json.dumps({"error": {"message": "no capacity", "type": "server_error"}})),
    "page": ("text/html", "<html>Please log in.</html>"),
}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        kind, body = BODIES[self.path.split("/")[1]]
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *words):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()


def ask(path):
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/{path}/v1", api_key="none", max_retries=0)
    return client.chat.completions.create(model="any", messages=[{"role": "user", "content": "Hello"}])


error, page = ask("error"), ask("page")
print(type(error).__name__, error.choices, type(page).__name__, page)
assert type(error).__name__ == "ChatCompletion" and error.choices is None and isinstance(page, str)
PYTHON
