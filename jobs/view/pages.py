"""Renders the pages: HTML without a script, in the look of the report; every value is escaped by the templates."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from engine.records.release import HeldBy
from engine.report.page import TEMPLATES as REPORT
from engine.rows import Row
from jobs.commands.sql_docs import column_docs
from jobs.view import text
from jobs.view.ask import EQUAL, LEAST, MOST, write_ask
from jobs.view.conditions import Ask
from jobs.view.found import Found, Line
from jobs.view.labels import Form
from jobs.view.sources import SideBySide
from jobs.view.tables import CLIPPED, Bar, Page, Table

TEMPLATES = Path(__file__).parent / "templates"
PROSE = ("text", "answer", "target", "reference", "detail", "raw", "reasons")  # columns that may be wide


class Place(NamedTuple):
    """Where a page is."""

    base: str
    """The beginning of every address, with the token."""
    run: Found
    table: str

    @property
    def home(self) -> str:
        """Address of the run."""
        return f"{self.base}/run/{self.run.key}"

    @property
    def address(self) -> str:
        """Address of the table."""
        return f"{self.home}/table/{quote(self.table, safe='')}"

    def row(self, key: str) -> str:
        """Return the address of a row."""
        return f"{self.home}/row/{quote(key, safe='')}/{quote(self.table, safe='')}"

    def prompt(self, prompt_id: str) -> str:
        """Return the address of all answers to a prompt."""
        return f"{self.home}/prompt/{quote(prompt_id, safe='')}"


class Shown(NamedTuple):
    """What a page of a table shows besides the question."""

    page: Page
    values: Mapping[str, Sequence[str]]
    column: str
    """Column of the histogram; "" = none."""
    bars: Sequence[Bar]


class Around(NamedTuple):
    """What the page of a row shows besides the row."""

    lineage: str
    releases: Sequence[HeldBy]
    """Releases that learnt from its prompt."""
    form: Form | None
    is_saved: bool = False
    """Whether the form was sent a moment ago."""


def runs(lines: Sequence[Line], *, root: str, base: str) -> str:
    """Return the page of all runs below `root`."""
    return _render("runs.html", title="Runs", base=base, lines=lines, root=root)


def run(line: Line, counts: Mapping[str, int], *, base: str) -> str:
    """Return the page of a run; `counts`: table -> rows."""
    return _render("run.html", title=line.run.name, base=base, line=line, counts=counts, place=Place(base, line.run, ""))


def table(place: Place, source: Table, ask: Ask, shown: Shown) -> str:
    """Return a page of a table, with its form and, if asked for, a histogram."""
    most = max((bar.rows for bar in shown.bars), default=0)
    return _render(
        "table.html",
        title=f"{place.table} of {place.run.name}",
        base=place.base,
        place=place,
        source=source,
        ask=ask,
        shown=shown,
        most=most,
        limited=_limited(ask, shown.column if shown.column in source.numeric else ""),
        query=lambda **more: write_ask(ask, **more),
        narrowed=lambda bar: _narrowed(ask, shown.column, bar, shown.column in source.numeric),
        plain=write_ask(Ask(every=ask.every)),
        turned=lambda column: write_ask(ask._replace(sort=column, down=ask.sort == column and not ask.down, after="")),
        first=write_ask(ask._replace(after="")),
        following=write_ask(ask._replace(after=shown.page.after)),
        whole_table=write_ask(ask._replace(every=not ask.every)),
    )


def row(place: Place, key: str, values: Row, around: Around) -> str:
    """Return the page of a row: its columns, its lineage, the form of a label."""
    docs = column_docs(place.table.partition("@")[0])
    title = f"{key} of {place.table}"
    return _render("row.html", title=title, base=place.base, place=place, key=key, row=values, around=around, docs=docs)


def prompt(place: Place, sides: SideBySide) -> str:
    """Return the page with all answers to one prompt."""
    return _render("prompt.html", title="One prompt", base=place.base, place=place, sides=sides)


def wrong(message: str, *, base: str = "") -> str:
    """Return the page of an error."""
    return _render("wrong.html", title="Not shown", base=base, message=message)


@cache
def style() -> str:
    """Return the style sheet: that of the report, and what is added."""
    sheets = [(folder / name).read_text(encoding="utf-8") for folder, name in ((REPORT, "page.css"), (TEMPLATES, "view.css"))]
    return "\n".join(sheets)


def warm_up() -> None:
    """Compile the templates and the style sheet, so that the first page does not wait for them."""
    style()
    for name in _environment().list_templates(extensions=["html"]):
        _environment().get_template(name)


def _narrowed(ask: Ask, column: str, bar: Bar, is_number: bool) -> str:
    """Return the query that shows the rows of a bar alone; "" for nulls, which no filter asks for."""
    if is_number and bar.low is not None and bar.high is not None:
        return write_ask(ask._replace(least={**ask.least, column: bar.low}, most={**ask.most, column: bar.high}, after=""))
    return "" if bar.label == "(null)" else write_ask(ask._replace(equal={**ask.equal, column: bar.label}, after=""))


def _limited(ask: Ask, column: str) -> list[tuple[str, str, str, float | None]]:
    """Return (column, prefix, words, limit) of the fields of least and most values; those of `column` are there without one."""
    least, most = ({**({column: None} if column else {}), **limits} for limits in (ask.least, ask.most))
    return [(name, LEAST, "from", value) for name, value in least.items()] + [
        (name, MOST, "to", value) for name, value in most.items()
    ]


def _render(name: str, **values: Any) -> str:
    return _environment().get_template(name).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(cell=lambda value: text.cell(value, CLIPPED), whole=text.whole, count=lambda number: f"{number:,}")
    environment.globals.update(prose=PROSE, prefixes={"equal": EQUAL, "least": LEAST, "most": MOST})
    return environment
