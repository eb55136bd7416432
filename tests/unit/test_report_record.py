"""`report.json`: its models, older files, and the table of its keys in the README."""

import json
from pathlib import Path

from made_run import made_run

from engine.evaluation.evaluator import Evaluated
from engine.evaluation.size import ModelSize
from engine.inference.engine import Completion
from engine.records.report import Report
from jobs.commands import summary
from jobs.pipeline import pipeline
from jobs.steps import reports

ROOT = Path(__file__).parents[2]
OLDER = Path(__file__).parent / "data" / "report-without-version.json"


def test_report_without_a_version_is_read_and_keeps_every_key_and_value():
    older = json.loads(OLDER.read_text())
    report = Report.model_validate(older)
    assert "version" not in older and report.version == 1
    assert report.gate.winner == "s" and report.model("s").metrics.exact_match.value == 0.8046875
    judge = report.model_dump(mode="json")["judge"]
    assert judge == renamed(older["judge"], {"gates": "decides", "least": "clip", "found": "verdict"})
    read = report.model_dump(mode="json", exclude={"version", "judge"}, exclude_unset=True)
    assert read == {key: older[key] for key in older if key != "judge"}


def renamed(value, names):
    if isinstance(value, dict):
        return {names.get(key, key): renamed(inner, names) for key, inner in value.items()}
    return [renamed(inner, names) for inner in value] if isinstance(value, list) else value


def test_report_of_the_first_kind_without_later_keys_is_read():
    entry = {"name": "s", "role": "student", "metrics": {"exact_match": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}}}
    report = Report.model_validate({"models": [entry], "gate": {"passing": ["s"], "refusals": {}, "winner": "s"}})
    assert report.gate.numbers == {} and report.model("s").calibration.bins == () and report.ablation is None


def test_text_and_json_of_a_run_come_from_the_same_report(tmp_path):
    work = made_run(str(tmp_path / "run"), tmp_path / "seeds")
    report = summary.report(work.folder.url)
    text = summary.text(work.folder.url, report)
    assert "gate     refuses large" in text and "gate     passed by small" in text
    assert json.loads(report.model_dump_json())["gate"]["winner"] == "small"


def test_report_of_a_run_with_an_untrained_student_notes_it(tmp_path, monkeypatch):
    """The whole step, with answers by rule in place of engines on Ray."""
    work = made_run(str(tmp_path / "run"), tmp_path / "seeds")
    (work.folder / "students/large").remove()

    def evaluate(targets, rows, pool, *, timed, progress, kept):
        answers = [Completion(row["reference"], "stop", 10, 1) for row in rows]
        yield from [Evaluated(answers, size=ModelSize(100, 2))] * len(targets)

    monkeypatch.setattr(reports.flow, "evaluate", evaluate)
    job = next(job for job in pipeline(work.contract) if job.name == "reports")
    context = work.context(job, log=lambda text: None, progress=lambda text: None)
    counts = reports.run(context)
    written = Report.model_validate_json(context.writer.folder.read("report.json"))
    assert [(model.name, model.role) for model in written.models] == [("t", "teacher"), ("small", "student")]
    assert counts.rows_in == 2 and written.gate.winner == "small"
    assert "large was not trained, as its training failed or has not ended, so it is in no table." in written.findings
    page = context.writer.folder.read("index.html").decode()
    assert "large was not trained" in page and "Student small passes the gate" in page


def keys(schema: dict, node: dict, path: str = "") -> list[tuple[str, str]]:
    """Return path and documentation of every key below `node` of a JSON schema."""
    node = next((each for each in node.get("anyOf", [node]) if each.get("type") != "null"), node)
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    if set(node.get("properties", {})) == {"value", "low", "high", "n"}:
        return []  # an interval, described once
    if "items" in node:
        return keys(schema, node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        return keys(schema, node["additionalProperties"], f"{path}.*")
    rows = []
    for name, field in node.get("properties", {}).items():
        here = f"{path}.{name}".lstrip(".")
        rows += [(here, field.get("description", "")), *keys(schema, field, here)]
    return rows


def table() -> str:
    """Return the table of all keys of report.json in Markdown."""
    schema = Report.model_json_schema()
    rows = [f"| `{path}` | {' '.join(text.split())} |" for path, text in keys(schema, schema)]
    return "\n".join(["| key | meaning |", "|---|---|", *rows])


def test_readme_documents_every_key_of_the_report():
    readme = (ROOT / "engine/report/README.md").read_text(encoding="utf-8")
    assert table() in readme, f"replace the table in engine/report/README.md by:\n{table()}"
    assert all(text for _, text in keys(Report.model_json_schema(), Report.model_json_schema()))
