"""The ASGI application of `rayleigh view`: routes, what a request must have, and the answers as pages.

Who may read: requests with the token in their path and a Host header of this machine. A page loads nothing but its style sheet,
runs no script, and can be framed by no other page.
"""

import hmac
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from engine.errors import MissingArtifact, RayleighError
from engine.retry import no_waiting
from jobs.view import labels, pages
from jobs.view.ask import read_ask
from jobs.view.found import line, lines
from jobs.view.sources import Open, Sources

HOSTS = ["127.0.0.1", "localhost"]
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
Answer = Callable[[Request], str | Response]


class Settings(NamedTuple):
    """What the application is started with."""

    sources: Sources
    token: str
    """Part of every address; whoever does not know it gets 404."""


def application(settings: Settings) -> Starlette:
    """Return the application."""
    view = _View(settings)
    routes = {
        "/": view.runs,
        "/run/{run}": view.run,
        "/run/{run}/table/{table:path}": view.table,
        "/run/{run}/row/{key}/{table:path}": view.row,
        "/run/{run}/prompt/{prompt}": view.prompt,
        "/style.css": view.style,
    }
    found = [Route(f"/{{token}}{path}", view.guarded(answer), methods=["GET"]) for path, answer in routes.items()]
    found.append(Route("/{token}/run/{run}/label", view.labelling, methods=["POST"]))
    handlers = {404: lambda request, error: _html(pages.wrong("There is no such page."), 404)}
    return Starlette(
        routes=found,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False)],
        exception_handlers=handlers,  # type: ignore[arg-type]
    )


class _View:
    def __init__(self, settings: Settings) -> None:
        self.sources, self.token = settings.sources, settings.token
        self.base = f"/{settings.token}"

    def guarded(self, answer: Answer) -> Callable[[Request], Response]:
        """Return the route of `answer`: only with the token; what a person must act on becomes a page that says so."""

        def route(request: Request) -> Response:
            if not self._has_token(request):
                return _html(pages.wrong("There is no such page."), 404)
            try:
                with no_waiting():
                    body = answer(request)
            except RayleighError as error:
                status = 404 if isinstance(error, MissingArtifact) else 400
                return _html(pages.wrong(str(error), base=self.base), status)
            return body if isinstance(body, Response) else _html(body)

        return route

    def _has_token(self, request: Request) -> bool:
        return hmac.compare_digest(request.path_params["token"].encode(), self.token.encode())

    def _open(self, request: Request) -> Open:
        return self.sources.open(request.path_params["run"])

    def runs(self, request: Request) -> str:
        return pages.runs(lines(self.sources.runs()), root=str(self.sources.root), base=self.base)

    def run(self, request: Request) -> str:
        found = self.sources.found(request.path_params["run"])
        summary = line(found)
        counts = self._open(request).counts() if summary.finished else {}
        return pages.run(summary, counts, base=self.base)

    def table(self, request: Request) -> str:
        opened, name = self._open(request), request.path_params["table"]
        table = opened.table(name)
        ask, column = read_ask(request.query_params), request.query_params.get("histogram", "")
        bars = table.histogram(column, ask) if column else []
        place = pages.Place(self.base, opened.run, name)
        return pages.table(place, table, ask, pages.Shown(table.page(ask), table.values(), column, bars))

    def row(self, request: Request) -> str:
        opened, name, key = self._open(request), request.path_params["table"], request.path_params["key"]
        row = opened.table(name).row(key)
        if row is None:
            raise MissingArtifact(f"{key}: found no such row in {name} of {opened.run.name}. It may be of an earlier run.")
        place = pages.Place(self.base, opened.run, name)
        form = labels.form(opened, row) if name in labels.TABLES else None
        is_saved = request.query_params.get("saved") == "1"
        held = opened.released(row["prompt_id"]) if row.get("prompt_id") else []
        return pages.row(place, key, row, pages.Around(opened.lineage(row), held, form, is_saved))

    def prompt(self, request: Request) -> str:
        opened, prompt = self._open(request), request.path_params["prompt"]
        sides = opened.beside(prompt)
        if sides is None:
            raise MissingArtifact(f"{prompt}: found no such prompt in {opened.run.name}.")
        return pages.prompt(pages.Place(self.base, opened.run, sides.table), sides)

    def style(self, request: Request) -> Response:
        return Response(pages.style(), media_type="text/css", headers=HEADERS)

    async def labelling(self, request: Request) -> Response:
        """Store a label; the only write. The browser says where the form came from: another origin is refused."""
        if not self._has_token(request):
            return _html(pages.wrong("There is no such page."), 404)
        if request.headers.get("origin") != f"http://{request.headers.get('host')}":
            return _html(pages.wrong("The label came from another page, so it was not stored.", base=self.base), 403)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > labels.MOST_BYTES:
                break
        try:
            with no_waiting():
                opened = await run_in_threadpool(self._open, request)
                answer_id, table = await run_in_threadpool(labels.store, opened, body)
            self.sources.forget(opened.run.key)
        except RayleighError as error:
            return _html(pages.wrong(str(error), base=self.base), 400)
        query = urlencode({"saved": 1})
        return RedirectResponse(f"{self.base}/run/{opened.run.key}/row/{answer_id}/{table}?{query}", 303, headers=HEADERS)


def _html(body: str, status: int = 200) -> Response:
    return Response(body, status, media_type="text/html", headers=HEADERS)
