"""The page as text: complete, escaped, without network, explicit about missing data."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import duckdb
import pytest
import sample_run
from sample_report import proven

from engine.contract.gate import Gate
from engine.records.gate import POINT, GateDecision, GateNumber
from engine.records.record import Identity
from engine.records.report import ModelEntry, Report
from engine.release.gate import decide
from engine.report import headline, labels
from engine.report.collect import collect
from engine.report.embed import as_data
from engine.report.page import changed_words, page
from engine.report.page_data import MapPoint, PageData
from engine.report.queries import QUERIES
from engine.rows import CANDIDATE, EXAMPLE, PICKED, PREDICTION, PREFERENCE, REJECT, STEP, from_rows
from engine.storage.artifact import ArtifactWriter, RowCounts
from engine.storage.folder import Folder


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
def arguments(tmp_path_factory):
    return sample_run.run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def data(arguments):
    return collect(**arguments)


@pytest.fixture(scope="module")
def html(data):
    return page(data)


@pytest.fixture(scope="module")
def bare():
    return page(PageData(run="", created="", report=Report(), contract={}, jobs=[]))


SHOWN = {  # section -> text that only its content has
    "summary": "Student s passes the gate",
    "funnel": "Funnel: from source rows to examples",
    "duplicates": "Dropped rows and what they duplicate",
    "judge": "Agreement with labels",
    "pools": "Pools and their reasons",
    "training": "validation loss",
    "quality": "Exact match by slice",
    "calibration": "reliability diagram",
    "pareto": "exact match against parameters",
    "cascade": "cascade of s before smol",
    "gate": "Retention on unseen",
    "return": "learning curve over data",
    "attribution": "effect of each bucket of the examples",
    "lineage": "sample-browser",
    "predictions": "prediction-browser",
    "run": "Metrics of <b>candidates</b>",
}


def test_every_section_shows_its_content(html):
    assert {attrs.get("id") for tag, attrs in Elements(html).tags if tag == "section"} == set(SHOWN)
    for name, text in SHOWN.items():
        section = html.partition(f'<section id="{name}">')[2].partition("</section>")[0]
        assert text in section and 'class="empty"' not in section, name


def test_navigation_names_every_section(html):
    links = [attrs["href"] for tag, attrs in Elements(html).tags if tag == "a"]
    assert set(links) == {f"#{name}" for name in SHOWN}


def test_page_without_any_data_says_so_in_every_section(bare):
    assert {attrs["id"] for tag, attrs in Elements(bare).tags if tag == "section"} == set(SHOWN)
    for name in set(SHOWN) - {"summary"}:
        section = bare.partition(f'<section id="{name}">')[2].partition("</section>")[0]
        assert 'class="empty"' in section, name
    assert "No student has been evaluated" in bare


def test_page_says_what_to_do_next_what_it_saves_and_whose_errors_they_are(html, data):
    worth = data.report.worth
    section = " ".join(re.sub(r"<[^>]+>", " ", html.partition('<section id="return">')[2].partition("</section>")[0]).split())
    assert f"Next: {worth.advice.title} , for s" in section and "Law: power law without asymptote" in section
    assert "labels of persons (40) 12.00" in section and "never never to never" in section  # xs is dearer than its teacher
    section = " ".join(re.sub(r"<[^>]+>", " ", html.partition('<section id="attribution">')[2].partition("</section>")[0]).split())
    assert "teacher other answers of the teacher other 100 150" in section and " hurts " in section and " helps " in section
    counts = worth.decompositions[0]
    assert f"teacher wrong, and learnt {counts.error_learnt.count}" in section


def test_page_shows_what_picking_did_and_what_resembled_the_holdout(html, data):
    section = re.sub(r"<[^>]+>", " ", html.partition('<section id="duplicates">')[2].partition("</section>")[0])
    text = " ".join(section.split())
    assert "180 of 240 prompts" in text and "evenness of layer 0.84 0.93" in text and "coverage, least 0.671" in text
    assert "evenness of task unit" not in text  # there is only one
    assert "exam.jsonl rationale ngram 3" in text and "128 texts of holdout" in text
    assert "abcdef012345 and holdout fedcba987654 prompt embedding 0.941" in text
    clean = [
        job.model_copy(update={"metrics": {"decontamination": {**sample_run.DECONTAMINATION, "removed": []}}}) for job in data.jobs
    ]
    assert "nothing in the training set resembled them" in page(replace(data, jobs=clean))


def test_page_shows_what_the_judge_is_worth_and_why_it_decides_nothing(html, data):
    section = re.sub(r"<[^>]+>", " ", html.partition('<section id="judge">')[2].partition("</section>")[0])
    text = " ".join(section.split())
    assert "is recorded and decides nothing: its bias `padded` is 0.31, the contract tolerates 0.1" in text
    assert "kappa 0.60 0.49\u20130.70 40" in text and "rejects wrong &lt;product&gt; 0.50" in text
    assert "padded 0.31 0.20\u20130.41 0.10 beyond the limit" in text
    assert "position n/a 0.10 not measured: no pairs are compared" in text
    assert "gold.items 40" in text and "Cross-validated" in text
    decides = {**sample_run.JUDGE, "decides": True, "why": []}
    jobs = [job.model_copy(update={"metrics": {"judge": decides}}) if job.job == "candidates" else job for job in data.jobs]
    assert "Its confidence decides: an answer with at least 0.30" in page(replace(data, jobs=jobs))


def test_page_shows_what_pools_hold_and_what_else_was_learnt(html, data):
    section = re.sub(r"<[^>]+>", " ", html.partition('<section id="pools">')[2].partition("</section>")[0])
    text = " ".join(section.split())
    answers = f"{data.counts.answers:,}"
    assert f"exactly one pool: {answers} of {answers}" in text
    for (pool, reason), rows in data.counts.reasons.items():
        assert pool in text and (f"{reason} {rows}" in text or len(reason) > 40)
    assert "conflicting 9" in text and "answers merged from complementary ones 2" in text and "1 64" in text
    assert "contrast a wrong answer used as a contrastive example 31 13.8 %" in text
    assert "ungrounded 70" in text and "total 77" in text and "Mean confidence margin 0.61" in text
    assert "People labelled 3 right, 1 wrong, 2 corrected." in text


def test_model_text_never_becomes_an_element(html):
    elements = Elements(html)
    assert sample_run.NASTY[:25] not in html
    assert [attrs.get("type") for tag, attrs in elements.tags if tag == "script"] == ["application/json"] * 4 + [None]
    assert not [tag for tag, _ in elements.tags if tag == "img"]
    assert not [name for _, attrs in elements.tags for name in attrs if name.startswith("on")]
    assert "{{ 7 * 7 }}" in html  # a template in model text is not run


def test_embedded_data_reads_back_whole(data, html):
    points, samples, predictions, _ = map(json.loads, Elements(html).scripts[:4])
    assert [MapPoint(*point).text for point in points] == [point.text for point in data.points]
    assert [sample["answer"] for sample in samples] == [sample["answer"] for sample in data.samples]
    assert predictions[0]["models"].keys() == data.predictions[0]["models"].keys()
    assert any(sample_run.NASTY in model["answer"] for row in predictions for model in row["models"].values())


@pytest.mark.parametrize(
    "text", ["</script>", "<!--", "a & b", "\u2028\u2029", "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), '"\\']
)
def test_data_cannot_end_its_script_element(text):
    data = as_data({"text": text, "bad": float("nan")})
    assert not set("<>&\u2028\u2029") & set(data)
    assert json.loads(data) == {"text": text, "bad": None}


def test_page_needs_no_network(html):
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
def test_page_of_very_long_texts_stays_small(tmp_path, arguments, sign):
    rows = arguments["artifacts"]["dataset"].read("picked", PICKED).to_pylist()
    longer = [{**row, "text": f"{n} " + sign * 20_000, "answer": sign * 20_000} for n, row in enumerate(rows)]
    writer = ArtifactWriter(Folder(str(tmp_path)) / "dataset")
    writer.put("picked", from_rows(longer, PICKED), PICKED)
    made = writer.finish(Identity("dataset", {}, {}, ""), RowCounts(len(rows), {"": len(rows)}))
    predictions = [{**row, "text": sign * 20_000, "answer": sign * 20_000} for row in arguments["predictions"].to_pylist()]
    arguments = {
        **arguments,
        "artifacts": {**arguments["artifacts"], "dataset": made},
        "predictions": from_rows(predictions, PREDICTION),
    }
    assert len(page(collect(**arguments)).encode()) < 2_000_000


def test_headline_names_the_winner_and_its_numbers(data):
    title, lede = headline.headline(data.report)
    assert title == "Student s passes the gate"
    retention = data.report.model("s").against_teacher.retention.value
    assert f"{retention * 100:.0f}\u00a0%" in lede and "2.7 times smaller" in lede


def test_headline_says_that_the_chosen_student_was_not_confirmed(arguments):
    why = "on the part of the holdout kept for confirmation it is: refuse."
    gate = GateDecision(by="prove", refusals={"s": ()}, words={"s": "refuse"}, because={"s": why})
    title, lede = headline.headline(arguments["report"].model_copy(update={"gate": gate}))
    assert title == "No student passes the gate" and f"s is refused: {why}" in lede


def test_headline_without_winner_names_the_number_that_refused(arguments):
    missed = (GateNumber(number="exact_match", found=0.71, wanted=0.8, low=0.6, high=0.8),)
    gate = GateDecision(refusals={"s": missed}, numbers={"s": missed})
    title, lede = headline.headline(arguments["report"].model_copy(update={"gate": gate}))
    assert title == "No student passes the gate"
    assert "s misses exact match 0.710, wanted at least 0.8" in lede


def gate_section(html):
    return html.partition('<section id="gate">')[2].partition("</section>")[0]


def test_gate_by_point_values_says_so_in_bold(html):
    assert f"<b>{POINT}</b>" in gate_section(html)
    assert html.count(f"<b>{POINT}</b>") == 2  # below the headline, too


def test_gate_that_proves_shows_its_words_with_intervals_and_n(data):
    report = proven(data.report)
    section = gate_section(page(replace(data, report=report)))
    assert POINT not in section
    assert all(word in section for word in (">pass<", ">refuse<", ">undecided<", "128 in 80 clusters", "there is no champion"))
    assert "about 412 further independent prompts would decide" in section
    assert f"tested at a risk of {report.gate.level}" in section


def test_headline_of_an_undecided_gate_names_what_would_decide(data):
    report = proven(data.report)
    [number] = [each for each in report.gate.numbers["xs"] if each.word == "undecided"]
    gate = report.gate.model_copy(update={"winner": None, "passing": (), "refusals": {}, "undecided": {"xs": (number,)}})
    title, lede = headline.headline(report.model_copy(update={"gate": gate}))
    assert title == "The holdout does not decide the gate"
    assert "xs is undecided: retention" in lede and "About 412 further independent prompts would decide." in lede


def test_number_that_was_not_measured_never_meets_the_gate(arguments):
    [student] = [model for model in arguments["report"].models if model.name == "s"]
    models = (student.model_copy(update={"latency": None}),)
    report = Report(models=models, gate=decide(models, Gate.model_validate(arguments["contract"]["gate"])))
    rows = {row.label: row for row in headline.gate_rows(report)["s"]}
    latency = rows["Latency p95 (ms)"]
    assert (latency.found, latency.wanted, latency.passed) == ("not measured", "at most 400", False)
    assert rows["ECE"].passed is True and rows["ECE"].wanted == "at most 0.15"


def test_model_that_could_not_be_evaluated_is_named(data):
    broken = ModelEntry(name="m", role="student", error="weights unreadable")
    html = page(replace(data, report=data.report.model_copy(update={"models": (*data.report.models, broken)})))
    assert "not evaluated" in html and "weights unreadable" in html


def test_page_shows_what_an_accepted_answer_cost(data, html):
    [candidates] = [job for job in data.jobs if job.job == "candidates"]
    account = candidates.metrics["teachers"]["smol"]
    each = round((account["tokens_in"] + account["tokens_out"]) / account["accepted"], 1)
    money = (account["tokens_in"] + 4 * account["tokens_out"]) / 1e6 + account["seconds"] / 36_000
    line = html.partition('<section id="funnel">')[2].partition("</section>")[0]
    assert f"{labels.count(account['accepted'])}</td>" in line and f"{labels.whole(each)}</td>" in line
    assert f'strong">{labels.money(1000 * money / account["accepted"])}</td>' in line
    assert "Money in EUR" in line and "was used up" not in line


def test_page_of_a_run_that_the_cap_stopped_says_so(data):
    [candidates] = [job for job in data.jobs if job.job == "candidates"]
    account = {**candidates.metrics["teachers"]["smol"], "budget_exhausted": 321}
    capped = candidates.model_copy(update={"metrics": {**candidates.metrics, "teachers": {"smol": account}}})
    jobs = [capped if job is candidates else job for job in data.jobs]
    order = {**data.contract, "budget": {"teacher_tokens": 9_000}}
    html = page(replace(data, jobs=jobs, contract=order))
    assert "The budget of 9,000 tokens was used up" in html and "321 answers are missing" in html


def test_page_gives_the_reasons_of_failed_answers_with_an_example(data):
    [candidates] = [job for job in data.jobs if job.job == "candidates"]
    reason = {"pool": "failure", "reason": "finish_reason_error: <b>full: N", "answers": 3, "answer_id": "ab12", "prompt_id": "p"}
    reasons = {"failures": [{**reason, "text": "two apples", "words": "<b>full: 7"}]}
    failed = candidates.model_copy(update={"metrics": {**candidates.metrics, **reasons}})
    html = page(replace(data, jobs=[failed if job is candidates else job for job in data.jobs]))
    assert "finish_reason_error: &lt;b&gt;full: N" in html and "<code>ab12</code> to two apples: &lt;b&gt;full: 7" in html


def test_conservation_failure_is_shown(data):
    counts = data.jobs[0].row_counts
    lossy = data.jobs[0].model_copy(update={"row_counts": replace(counts, rows_in=counts.rows_in + 3)})
    assert "3 rows unaccounted for" in page(replace(data, jobs=[lossy, *data.jobs[1:]]))


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
        (str(labels.with_interval(None)), '<span class="na">n/a</span>'),
    ],
)
def test_numbers_are_written_as_a_reader_expects(written, expected):
    assert written == expected
