"""`rayleigh view`: who may read, what is shown, and that nothing but a label is written."""

import asyncio
import html
import math
import random
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from made_run import made_run
from typer.testing import CliRunner

from engine.errors import InputError
from engine.rows import CANDIDATE, POOLS, Row, from_rows
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from engine.storage.shards import iterate, write_table
from jobs.cli import app as command
from jobs.steps import labels
from jobs.view import pages, tables, text
from jobs.view.app import Settings, application
from jobs.view.conditions import Ask
from jobs.view.found import Found
from jobs.view.sources import Sources
from jobs.view.tables import BINS, PAGE, Table
from tests.older_run import unpack

TOKEN = "token"
ROWS = 173
HARMLESS = "<svg onload=x>\x1b[31m\u202e</td><script>1</script>&amp;"


class Browser:
    """Sends requests to the application as a browser would."""

    def __init__(self, root: Path | str) -> None:
        self.sources = Sources(root)
        self.app = application(Settings(self.sources, TOKEN))

    def get(self, path: str, *, token: str = TOKEN, host: str = "127.0.0.1:8000") -> httpx.Response:
        return self._send("GET", f"/{token}{path}", {"host": host})

    def post(self, path: str, fields: dict[str, str], **headers: str) -> httpx.Response:
        form = {"host": "127.0.0.1:8000", "content-type": "application/x-www-form-urlencoded", **headers}
        return self._send("POST", f"/{TOKEN}{path}", form, urlencode(fields))

    def _send(self, method: str, url: str, headers: dict[str, str], content: str | None = None) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
                return await client.request(method, url, headers=headers, content=content)

        return asyncio.run(send())


@pytest.fixture
def browser(tmp_path):
    made_run(str(tmp_path / "runs" / "team" / "one"), tmp_path / "seeds")
    return Browser(tmp_path / "runs")


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A table of several shards, with ties, pages of nulls and NaN in the column that is sorted by, and its rows in their order."""
    artifact, rows = _many(tmp_path_factory.mktemp("many"))
    return Table(artifact, "candidates"), rows


def _many(home: Path) -> tuple[Any, list[Row]]:
    pick = random.Random(3)
    confidences = [*[None] * 12, math.nan, 0.0, 0.25, 0.5, 0.75, 1.0]
    rows = [
        {
            "answer_id": f"{pick.getrandbits(64):016x}", "text": f"text {number} {pick.choice(('Apple', 'pear'))}", "answer": "a",
            "pool": pick.choice(("train", "hard")), "confidence": pick.choice(confidences), "tokens_in": number, "reasons": [],
        }
        for number in range(ROWS)
    ]  # fmt: skip
    folder = Folder(str(home))
    written = write_table(folder / "candidates", from_rows(rows, CANDIDATE), CANDIDATE, shard_rows=40)
    artifact: Any = SimpleNamespace(folder=folder, table=lambda name: written)
    by_id = {row["answer_id"]: row for row in rows}
    stored = [key.as_py() for piece in iterate(folder / "candidates", written, ["answer_id"]) for key in piece["answer_id"]]
    return artifact, [by_id[key] for key in stored]


def home(browser: Browser) -> str:
    [run] = browser.sources.runs()
    return f"/run/{run.key}"


def every_page(browser: Browser) -> list[str]:
    base = home(browser)
    tables = re.findall(rf"/{TOKEN}({base}/table/[^\"]+)", browser.get(base).text)
    rows = [f"{base}/row/eeee5555/candidates", f"{base}/row/0.0/predictions", f"{base}/prompt/aaaa1111", f"{base}/prompt/cccc3333"]
    return ["/", base, *tables, f"{base}/table/candidates?histogram=pool&every=1", *rows]


def test_runs_are_listed_with_the_word_of_the_gate(browser, tmp_path):
    shown = browser.get("/").text
    assert "team/one" in shown and "passed by small" in shown and "toy" in shown
    made_run(str(tmp_path / "runs" / "two [1]*"), tmp_path / "seeds")  # seen without a restart; its name is no pattern
    (tmp_path / "runs" / "two [1]*" / "reports" / "report.json").write_text("{")
    shown = browser.get("/").text
    assert "2 below" in shown and "cannot be read" in shown  # a damaged run does not hide the others


@pytest.mark.parametrize("column", ["tokens_in", "confidence"])
def test_the_page_of_a_bar_has_as_many_rows_as_the_bar(many, column):
    table, _ = many
    bars = table.histogram(column, Ask())
    assert any(bar.rows for bar in bars[1:])
    for bar in bars:
        assert table.page(Ask(least={column: bar.low}, most={column: bar.high})).matching == bar.rows


@pytest.mark.parametrize("path", ["/", "/style.css", "/run/x"])
def test_without_the_token_nothing_is_shown(browser, path):
    answer = browser.get(path, token="other")
    assert answer.status_code == 404 and "team/one" not in answer.text


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1:8000", 200), ("localhost", 200), ("evil.example", 400), ("", 400)])
def test_only_hosts_of_this_machine_are_answered(browser, host, status):
    assert browser.get("/", host=host).status_code == status


def test_every_page_is_strict_has_no_script_and_names_no_other_place(browser):
    seen = every_page(browser)
    assert len(seen) > 12
    for path in seen:
        answer = browser.get(path)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src" not in policy and "unsafe" not in policy
        assert not re.search(r"<script|javascript:|https?://|\son\w+=|\sstyle=", answer.text), path
        assert answer.text.count("<h1") == 1 and '<html lang="en">' in answer.text


def test_text_of_models_is_shown_as_text_and_unseen_characters_get_names():
    place = pages.Place(f"/{TOKEN}", Found("k", HARMLESS, "/f"), "candidates")
    shown = pages.row(place, HARMLESS, {"text": HARMLESS, "checks": [{"tag": HARMLESS}]}, pages.Around(HARMLESS, [], None))
    assert "<svg" not in shown and "<script" not in shown and "\x1b" not in shown and "\u202e" not in shown
    assert html.escape("<svg onload=x><U+001B>[31m<U+202E>", quote=False) in shown
    assert text.visible("a\tb\nc") == "a\tb\nc" and text.cell("x" * 9, 5) == "xx..."


def test_markup_of_a_prompt_is_escaped_on_its_pages(browser):
    for path in (f"{home(browser)}/table/prompts", f"{home(browser)}/prompt/bbbb2222", f"{home(browser)}/row/ffff6666/candidates"):
        shown = browser.get(path).text
        assert "&lt;b&gt;[red]six" in shown and "<b>[red]" not in shown


@pytest.mark.parametrize(("sort", "down"), [("", False), ("confidence", False), ("confidence", True), ("answer_id", True)])
def test_pages_show_every_row_once_and_in_order(many, sort, down):
    table, rows = many
    seen: list[str] = []
    ask = Ask(sort=sort, down=down)
    while True:
        page = table.page(ask)
        seen += [key for key, _ in page.rows]
        assert len(page.rows) == PAGE or not page.after
        if not page.after:
            break
        ask = ask._replace(after=page.after)
    assert sorted(seen) == sorted(row["answer_id"] for row in rows)
    if not sort:
        assert seen == [row["answer_id"] for row in rows]
        return
    values = {row["answer_id"]: row[sort] for row in rows}
    present = [values[key] for key in seen if values[key] is not None]
    assert [values[key] for key in seen][len(present) :] == [None] * (ROWS - len(present))  # nulls are last
    order = [math.inf if isinstance(value, float) and math.isnan(value) else value for value in present]
    assert order == sorted(order, reverse=down)


def test_filters_and_search_keep_what_they_say(many):
    table, rows = many
    wanted = [row for row in rows if row["pool"] == "hard" and "apple" in row["text"].lower() and 20 <= row["tokens_in"] <= 120]
    ask = Ask(search="aPPle", equal={"pool": "hard"}, least={"tokens_in": 20}, most={"tokens_in": 120})
    page = table.page(ask)
    assert page.matching == len(wanted) and [key for key, _ in page.rows] == [row["answer_id"] for row in wanted][:PAGE]
    assert table.page(Ask(search="100%_")).rows == []  # no pattern, a part of a text


def test_histograms_count_the_rows_that_the_filters_leave(many):
    table, rows = many
    pools = {bar.label: bar.rows for bar in table.histogram("pool", Ask())}
    assert pools == Counter(row["pool"] for row in rows)
    bars = table.histogram("tokens_in", Ask(equal={"pool": "train"}))
    assert len(bars) == BINS and sum(bar.rows for bar in bars) == pools["train"]
    finite = [row["confidence"] for row in rows if row["confidence"] is not None and not math.isnan(row["confidence"])]
    assert sum(bar.rows for bar in table.histogram("confidence", Ask())) == len(finite)


@pytest.mark.parametrize("ask", [Ask(equal={'pool" or "1': "1"}), Ask(sort="nothing"), Ask(least={"text": 1.0}), Ask(after="x")])
def test_what_the_table_does_not_have_is_refused(many, ask):
    with pytest.raises(InputError):
        many[0].page(ask)


def test_table_reads_its_own_shards_alone(many, tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    with pytest.raises(Exception, match=r"(?i)permission|disabled"):
        many[0].connection.execute(f"select * from read_csv('{secret}')")


def test_wrong_address_says_what_is_there(browser):
    answer = browser.get(f"{home(browser)}/table/nothing")
    assert answer.status_code == 400 and "expected one of prompts" in answer.text
    assert browser.get(f"{home(browser)}/row/0000/candidates").status_code == 404
    assert browser.get(f"{home(browser)}/table/prompts?from.line=x").status_code == 400


def test_row_leads_back_to_its_source_and_to_all_answers(browser):
    shown = browser.get(f"{home(browser)}/row/eeee5555/candidates").text
    assert "source: seeds.jsonl" in shown and "line: 7" in shown and f"{home(browser)}/prompt/aaaa1111" in shown
    assert "No release in the registry" in shown
    beside = browser.get(f"{home(browser)}/prompt/aaaa1111").text
    assert beside.count('<article class="card">') == 2  # both samples of the teacher
    assert "Models on the holdout" in browser.get(f"{home(browser)}/prompt/cccc3333").text


def test_release_that_learnt_from_a_row_is_named(browser, tmp_path):
    run = tmp_path / "runs" / "team" / "one"
    result = CliRunner().invoke(command, ["promote", str(run)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "the champion" in browser.get(f"{home(browser)}/row/eeee5555/candidates").text


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_reading_writes_nothing(browser, tmp_path):
    before = files(tmp_path)
    for path in every_page(browser):
        browser.get(path)
    assert files(tmp_path) == before


def test_label_is_stored_as_an_import_does(browser, tmp_path):
    run, origin = Folder(str(tmp_path / "runs" / "team" / "one")), {"origin": "http://127.0.0.1:8000"}
    fields = {"answer_id": "eeee5566", "label": "wrong", "correction": ""}
    path = f"{home(browser)}/label"
    assert browser.post(path, fields).status_code == 403  # no page of ours
    assert browser.post(path, fields, origin="http://evil.example").status_code == 403
    assert browser.post(path, fields, **origin).status_code == 400  # the box about the dataset is not ticked
    assert browser.post(path, {**fields, "agreed": "1", "label": "fine"}, **origin).status_code == 400
    assert browser.post(path, {**fields, "agreed": "1", "answer_id": "0"}, **origin).status_code == 400
    assert labels.read(run) == {} and load_artifact(run / "dataset")
    answer = browser.post(path, {**fields, "agreed": "1"}, **origin)
    assert answer.status_code == 303 and answer.headers["location"].startswith(f"/{TOKEN}{home(browser)}/row/eeee5566/candidates")
    assert labels.read(run) == {"eeee5566": fields} and load_artifact(run / "dataset") is None
    shown = browser.get(f"{home(browser)}/row/eeee5566/candidates").text
    assert "Labelled <b>wrong</b>" in shown and "agreed" not in shown  # no dataset is left to remove


@pytest.mark.parametrize("root", ["no-such-folder", "memory://no-such-folder"])
def test_folder_that_is_not_there_is_named(root):
    result = CliRunner().invoke(command, ["view", root])
    assert result.exit_code == 1 and f"{root}: found no such folder" in result.stderr


@pytest.mark.parametrize("store", ["memory", "s3"])
def test_runs_behind_a_url_are_shown_searched_and_labelled(store, request, tmp_path):
    root = f"memory://{tmp_path.name}" if store == "memory" else f"{request.getfixturevalue('s3')}/{tmp_path.name}"
    made_run(f"{root}/team/one", tmp_path / "seeds")
    browser = Browser(root)
    shown = browser.get("/").text
    assert "team/one" in shown and "passed by small" in shown and "students/small" in shown
    for path in every_page(browser):
        assert browser.get(path).status_code == 200, path
    found = browser.get(f"{home(browser)}/table/candidates?q=%5BRED%5D&sort=tokens_in&down=1").text
    assert "1 of 3 rows" in found and "&lt;b&gt;[red]six" in found
    assert "source: seeds.jsonl" in browser.get(f"{home(browser)}/row/eeee5555/candidates").text
    fields = {"answer_id": "eeee5566", "label": "wrong", "correction": "", "agreed": "1"}
    assert browser.post(f"{home(browser)}/label", fields, origin="http://127.0.0.1:8000").status_code == 303
    assert labels.read(Folder(f"{root}/team/one"))["eeee5566"]["label"] == "wrong"
    shown = browser.get(f"{home(browser)}/row/eeee5566/candidates").text
    assert "Labelled <b>wrong</b>" in shown and "agreed" not in shown  # seen at once, although a store is not asked each time


def test_tables_of_an_older_version_are_shown_in_todays(tmp_path):
    unpack(tmp_path)
    browser = Browser(tmp_path)
    base = home(browser)
    addresses = re.findall(rf"/{TOKEN}({base}/table/[^\"]+)", browser.get(base).text)
    assert addresses and all(browser.get(path).status_code == 200 for path in addresses)
    assert "duplicate_of" in browser.get(f"{base}/table/picked?every=1").text  # called rep_id then


def test_lists_of_values_leave_out_what_is_the_same_in_all_rows(tmp_path, monkeypatch):
    artifact, _ = _many(tmp_path)
    assert Table(artifact, "candidates").values() == {"pool": ["hard", "train"]}
    monkeypatch.setattr(tables, "COUNTED_ROWS", 0)  # the closed set of a large table is not counted
    assert Table(artifact, "candidates").values() == {"pool": sorted(POOLS)}


def test_query_that_sorts_reads_the_shown_columns_of_one_page_alone(many):
    setting = "select current_setting('late_materialization_max_rows')"
    [(most,)] = many[0].connection.cursor().execute(setting).fetchall()
    assert most > PAGE  # else all texts are read to sort by another column: three times the work at 10^6 rows


def test_part_of_an_id_is_found(many):
    table, rows = many
    wanted = rows[5]["answer_id"]
    assert [key for key, _ in table.page(Ask(search=wanted[3:13].upper())).rows] == [wanted]
