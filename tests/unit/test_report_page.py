"""The page as text: whole, escaped, without network, honest about what is missing."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import duckdb
import pytest
import report_facts

from engine.records.record import Identity
from engine.report import labels, verdict
from engine.report.collect import gather
from engine.report.embed import as_data
from engine.report.facts import Facts
from engine.report.page import SECTIONS, changed_words, page
from engine.report.queries import QUERIES
from engine.rows import CANDIDATE, EXAMPLE, PICKED, PREDICTION, PREFERENCE, REJECT, STEP, from_rows
from engine.storage.artifact import ArtifactWriter, RowCounts
from engine.storage.shards import Folder


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text of scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.is_script = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.is_script = tag == "script"
        if self.is_script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.is_script = False

    def handle_data(self, data):
        if self.is_script:
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return report_facts.run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def facts(given):
    return gather(**given)


@pytest.fixture(scope="module")
def html(facts):
    return page(facts)


@pytest.fixture(scope="module")
def bare():
    return page(Facts(run="", created="", report={}, contract={}, jobs=[]))


def test_page_has_every_section(html):
    ids = {attrs.get("id") for tag, attrs in Elements(html).tags if tag == "section"}
    assert ids == {name for name, _ in SECTIONS}


def test_page_without_any_data_says_so_in_every_section(bare):
    assert {attrs["id"] for tag, attrs in Elements(bare).tags if tag == "section"} == {name for name, _ in SECTIONS}
    for name, _ in SECTIONS[1:]:
        section = bare.partition(f'<section id="{name}">')[2].partition("</section>")[0]
        assert 'class="empty"' in section, name
    assert "No student has been evaluated" in bare


def test_page_says_what_picking_did_and_what_resembled_the_holdout(html, facts):
    section = re.sub(r"<[^>]+>", " ", html.partition('<section id="duplicates">')[2].partition("</section>")[0])
    said = " ".join(section.split())
    assert "180 of 240 prompts" in said and "evenness of layer 0.84 0.93" in said and "coverage, least 0.671" in said
    assert "evenness of task unit" not in said  # there is only one
    assert "exam.jsonl rationale ngram 3" in said and "128 texts of holdout" in said
    assert "abcdef012345 and holdout fedcba987654 prompt embedding 0.941" in said
    clean = [{**job, "metrics": {"decontamination": {**report_facts.DECONTAMINATION, "removed": []}}} for job in facts.jobs]
    assert "nothing of the training set resembled them" in page(replace(facts, jobs=clean))


def test_page_says_what_the_judge_is_worth_and_why_it_decides_nothing(html, facts):
    section = re.sub(r"<[^>]+>", " ", html.partition('<section id="judge">')[2].partition("</section>")[0])
    said = " ".join(section.split())
    assert "annotates and decides nothing: its bias `padded` is 0.31, the contract tolerates 0.1" in said
    assert "kappa 0.60 0.49\u20130.70 40" in said and "stops wrong &lt;product&gt; 0.50" in said
    assert "padded 0.31 0.20\u20130.41 0.10 beyond the limit" in said
    assert "position n/a 0.10 not measured: no pairs are compared" in said
    assert "gold.items 40" in said and "Cross-fitted" in said
    deciding = {**report_facts.JUDGE, "decides": True, "why": []}
    jobs = [{**job, "metrics": {"judge": deciding}} if job["job"] == "candidates" else job for job in facts.jobs]
    assert "Its confidence decides: what reaches 0.30" in page(replace(facts, jobs=jobs))


def test_page_says_what_pools_hold_and_what_else_was_learnt(html, facts):
    section = re.sub(r"<[^>]+>", " ", html.partition('<section id="pools">')[2].partition("</section>")[0])
    said = " ".join(section.split())
    answers = f"{facts.counts.answers:,}"
    assert f"exactly one pool: {answers} of {answers}" in said
    for (pool, reason), rows in facts.counts.reasons.items():
        assert pool in said and (f"{reason} {rows}" in said or len(reason) > 40)
    assert "conflicting 9" in said and "answers made of complementary ones 2" in said and "1 64" in said
    assert "contrast wrong in a way worth showing 31 13.8 %" in said
    assert "ungrounded 70" in said and "in all 77" in said and "Mean margin 0.61" in said
    assert "Persons labelled 3 right, 1 wrong, 2 corrected." in said


def test_model_text_never_becomes_an_element(html):
    elements = Elements(html)
    assert report_facts.NASTY[:25] not in html
    assert [attrs.get("type") for tag, attrs in elements.tags if tag == "script"] == ["application/json"] * 4 + [None]
    assert not [tag for tag, _ in elements.tags if tag == "img"]
    assert not [name for _, attrs in elements.tags for name in attrs if name.startswith("on")]
    assert "{{ 7 * 7 }}" in html  # a template in model text is not run


def test_embedded_data_reads_back_whole(facts, html):
    points, samples, predictions, _ = map(json.loads, Elements(html).scripts[:4])
    assert [point["t"] for point in points] == [point["t"] for point in facts.points]
    assert [sample["answer"] for sample in samples] == [sample["answer"] for sample in facts.samples]
    assert predictions[0]["models"].keys() == facts.predictions[0]["models"].keys()
    assert any(report_facts.NASTY in model["answer"] for row in predictions for model in row["models"].values())


@pytest.mark.parametrize(
    "text", ["</script>", "<!--", "a & b", "\u2028\u2029", "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), '"\\']
)
def test_data_cannot_end_its_script_element(text):
    data = as_data({"text": text, "bad": float("nan")})
    assert not set("<>&\u2028\u2029") & set(data)
    assert json.loads(data) == {"text": text, "bad": None}


def test_page_asks_nothing_of_the_network(html):
    for tag, attrs in Elements(html).tags:
        for name in ("src", "href", "action", "srcset"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
    assert "url(" not in html and "@import" not in html


def test_policy_allows_only_the_script_of_the_page(html):
    elements = Elements(html)
    policy = next(attrs["content"] for tag, attrs in elements.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(elements.scripts[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy


@pytest.mark.parametrize("sign", ["\u6f22", "<"])
def test_page_of_very_long_texts_stays_small(tmp_path, given, sign):
    rows = given["artifacts"]["dataset"].read("picked", PICKED).to_pylist()
    longer = [{**row, "text": f"{n} " + sign * 20_000, "answer": sign * 20_000} for n, row in enumerate(rows)]
    writer = ArtifactWriter(Folder(str(tmp_path)) / "dataset")
    writer.put("picked", from_rows(longer, PICKED), PICKED)
    made = writer.finish(Identity("dataset", {}, {}, ""), RowCounts(len(rows), {"": len(rows)}))
    predictions = [{**row, "text": sign * 20_000, "answer": sign * 20_000} for row in given["predictions"].to_pylist()]
    given = {**given, "artifacts": {**given["artifacts"], "dataset": made}, "predictions": from_rows(predictions, PREDICTION)}
    assert len(page(gather(**given)).encode()) < 2_000_000


def test_headline_names_the_winner_and_its_numbers(facts):
    head, lede = verdict.headline(facts.report, facts.models)
    assert head == "Student s passes the gate"
    kept = facts.report["models"][1]["against_teacher"]["retention"]["value"]
    assert f"{kept * 100:.0f}\u00a0%" in lede and "2.7 times smaller" in lede


def test_headline_without_winner_names_the_number_that_refused(given):
    report = given["report"]
    refusal = {"number": "exact_match", "found": 0.71, "wanted": 0.8, "low": 0.6, "high": 0.8, "passed": False}
    gate = {"passing": [], "winner": None, "refusals": {"s": [refusal]}, "numbers": {"s": [refusal]}}
    head, lede = verdict.headline({**report, "gate": gate}, report["models"])
    assert head == "No student passes the gate"
    assert "s misses exact match 0.710, wanted at least 0.8" in lede


def test_number_that_was_not_measured_never_meets_the_gate(given):
    model = {**given["report"]["models"][1], "latency": None}
    report = {"gate": {"passing": [], "refusals": {}, "winner": None}}
    lines = {line.label: line for line in verdict.gate_lines(model, report, given["contract"])}
    assert lines["Latency p95 (ms)"].passed is None
    assert lines["ECE"].passed is True and lines["ECE"].wanted == "at most 0.15"


def test_model_that_could_not_be_examined_is_named(facts):
    broken = {
        "name": "m",
        "role": "student",
        "error": "weights unreadable",
        "parameters": None,
        "metrics": {},
        "against_teacher": None,
    }
    report = {**facts.report, "models": [*facts.report["models"], broken]}
    html = page(replace(facts, report=report))
    assert "not examined" in html and "weights unreadable" in html


def test_page_says_what_an_accepted_answer_cost(facts, html):
    [candidates] = [job for job in facts.jobs if job["job"] == "candidates"]
    account = candidates["metrics"]["teachers"]["smol"]
    each = round((account["tokens_in"] + account["tokens_out"]) / account["accepted"], 1)
    money = (account["tokens_in"] + 4 * account["tokens_out"]) / 1e6 + account["seconds"] / 36_000
    line = html.partition('<section id="line">')[2].partition("</section>")[0]
    assert f"{labels.count(account['accepted'])}</td>" in line and f"{labels.whole(each)}</td>" in line
    assert f'strong">{labels.money(1000 * money / account["accepted"])}</td>' in line
    assert "Money in EUR" in line and "was spent" not in line


def test_page_of_a_run_that_the_cap_stopped_says_so(facts):
    [candidates] = [job for job in facts.jobs if job["job"] == "candidates"]
    account = {**candidates["metrics"]["teachers"]["smol"], "budget_exhausted": 321}
    capped = {**candidates, "metrics": {**candidates["metrics"], "teachers": {"smol": account}}}
    jobs = [capped if job is candidates else job for job in facts.jobs]
    order = {**facts.contract, "budget": {"teacher_tokens": 9_000}}
    html = page(replace(facts, jobs=jobs, contract=order))
    assert "The budget of 9,000 tokens was spent" in html and "321 answers are missing" in html


def test_conservation_failure_is_shown(facts):
    row_counts = facts.jobs[0]["row_counts"]
    lossy = {**facts.jobs[0], "row_counts": {**row_counts, "rows_in": row_counts["rows_in"] + 3}}
    assert "3 rows unaccounted for" in page(replace(facts, jobs=[lossy, *facts.jobs[1:]]))


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_sql_beside_a_figure_runs_on_the_tables_of_a_run(name):
    with duckdb.connect() as connection:
        tables = {"candidates": CANDIDATE, "picked": PICKED, "rejects": REJECT, "steps": STEP, "predictions": PREDICTION}
        tables |= {"examples": EXAMPLE, "preferences": PREFERENCE}
        for table, schema in tables.items():
            connection.register(table, schema.empty_table())
        connection.execute(QUERIES[name]).fetchall()


def test_marked_words_are_escaped_and_only_the_changed_ones():
    marked = changed_words("order <b>12</b> now", "order <b>13</b> now")
    assert marked == "order <mark>&lt;b&gt;12&lt;/b&gt;</mark> now"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (labels.brief(49_570_752), "49.6M"),
        (labels.brief(999_900), "1M"),
        (labels.money(0.0000251), "0.000025"),
        (labels.money(12.345), "12.35"),
        (labels.money(0.0), "0.00"),
        (labels.whole(0.42, " ms"), "0.42 ms"),
        (labels.span(-0.07, 0.03), "-0.07 to +0.03"),
        (labels.span(None, 0.03), ""),
        (labels.clock(190), "3 min 10 s"),
        (labels.clip("abcdef", 3), "abc \u2026 [3 more characters]"),
        (str(labels.with_interval({"value": None})), '<span class="na">n/a</span>'),
    ],
)
def test_numbers_are_written_as_a_reader_expects(written, expected):
    assert written == expected
