"""Labels as a teacher: references become answers, and what counts on teachers knows that no model answers."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import yaml
from made_run import ASKED, HELD, YAML, workspace
from test_teachers_modes import CORE, HARD, prompts, routing, spec

from engine.contract.consumers import consumers
from engine.contract.contract import Contract
from engine.contract.profile import Pool, Profile
from engine.distributed import in_process
from engine.distributed.capacity import wanted
from engine.rows import ANSWER, CANDIDATE, HOLDOUT, PROMPT, from_rows
from engine.runs.job import run_job
from engine.runs.recipe import identify
from engine.storage.artifact import RowCounts
from engine.teachers.chained import ChainedTeacher
from engine.teachers.labels import LabelsSpec, answer, answer_routed
from engine.teachers.route import Router, answered
from jobs.pipeline import pipeline

LABELS = {"name": "people", "model": {"type": "labels"}}
MODEL = {"name": "t", "model": {"type": "fake", "replies": ["5"]}}
TRAINED = {"name": "s", "model": {"type": "student", "run": "r", "name": "s"}}
COLUMNS = {"text": "input", "reference": "reference"}


def ordered(teachers, *, columns=COLUMNS, **changes):
    raw = yaml.safe_load(YAML)
    raw["teachers"]["models"] = teachers
    raw["prompts"]["sources"][0]["columns"] = columns
    return Contract.model_validate({**raw, **changes})


def test_a_reference_is_the_answer_and_costs_nothing():
    rows = answer(prompts({"reference": "2"}, {}, {"reference": '{"a":1}'}), LabelsSpec("people"))
    assert rows.schema == ANSWER
    found = rows.select(["prompt_id", "teacher", "answer", "finish_reason", "tokens_in", "tokens_out", "logprob", "seconds"])
    free = {"teacher": "people", "finish_reason": "stop", "tokens_in": 0, "tokens_out": 0, "logprob": None, "seconds": 0.0}
    assert found.to_pylist() == [{"prompt_id": "00", "answer": "2", **free}, {"prompt_id": "02", "answer": '{"a":1}', **free}]


def test_another_reference_is_another_answer():
    first, same, other = (answer(prompts({"reference": text}), LabelsSpec("p"))["answer_id"][0].as_py() for text in "112")
    assert first == same != other


def test_labels_answer_the_prompts_that_are_routed_to_them(tmp_path):
    rows = Router(routing({"when": CORE, "to": "people"}, {"when": {}, "to": ["a", "people"]}))(
        prompts({**CORE, "reference": "x"}, CORE, {**HARD, "reference": "y"})
    )
    rows = answer_routed(ChainedTeacher(spec(tmp_path, "a"))(rows), LabelsSpec("people"))
    said = [(row["prompt_id"], row["teacher"], row["answer"]) for row in answered(rows).to_pylist()]
    assert sorted(said) == [("00", "people", "x"), ("02", "a", "prompt 2"), ("02", "people", "y")]


REFERENCES = ("2", None, "4", None, None)


def candidates(tmp_path, contract):
    """Run the job `candidates` on five prompts, two of them with references; return its rows and its record."""
    work = replace(workspace(str(tmp_path / "run"), tmp_path), contract=contract)
    jobs = {job.name: job for job in pipeline(contract)}
    context = work.context(jobs["prompts"], log=lambda text: None, progress=lambda text: None)
    asked = [{**ASKED, "prompt_id": f"p{n}", "line": n, "reference": text} for n, text in enumerate(REFERENCES)]
    context.writer.put("prompts", from_rows(asked, PROMPT), PROMPT)
    context.writer.put("holdout", from_rows(HELD, HOLDOUT), HOLDOUT)
    context.writer.finish(identify(context), RowCounts(6, {"prompts": 5, "holdout": 1}))
    with in_process.flows(is_here=True, pool=Pool()):
        artifact = run_job(work.context(jobs["candidates"], log=lambda text: None, progress=lambda text: None))
    return artifact.read("candidates", CANDIDATE).to_pylist(), artifact.record


def test_job_makes_candidates_of_labels_alone(tmp_path):
    rows, record = candidates(tmp_path, ordered([LABELS]))
    assert [(row["prompt_id"], row["answer"], row["pool"]) for row in rows] == [("p0", "2", "train"), ("p2", "4", "train")]
    assert record.row_counts.rows_out["no_reference"] == 3 and record.row_counts.rows_in == 5
    people = record.metrics["teachers"]["people"]
    assert (people["tokens_in"], people["tokens_out"], people["machine_seconds"], people["accepted"]) == (0, 0, 0.0, 2)


def test_job_checks_labels_as_it_checks_answers(tmp_path, monkeypatch):
    checks = {"checks": [{"type": "numeric", "reference": {"value": "4"}}]}
    rows, _ = candidates(tmp_path, ordered([LABELS], judges=checks))
    assert [(row["prompt_id"], row["pool"]) for row in rows] == [("p0", "contrast"), ("p2", "train")]


def test_job_takes_labels_beside_a_model(tmp_path):
    rows, record = candidates(tmp_path, ordered([MODEL, LABELS]))
    assert Counter(row["teacher"] for row in rows) == {"t": 5, "people": 2}
    assert {row["prompt_id"]: row["answer"] for row in rows if row["teacher"] == "people"} == {"p0": "2", "p2": "4"}
    assert record.row_counts.rows_in == 10 and record.row_counts.rows_out["no_reference"] == 3


def test_job_counts_prompts_that_are_routed_to_labels_and_have_none(tmp_path, monkeypatch):
    raw = yaml.safe_load(YAML)
    routes = [{"when": {"layer": "core"}, "to": ["people"]}, {"when": {}, "to": ["t"]}]
    teachers = {"mode": "experts", "models": [MODEL, LABELS], "routes": routes}
    raw["prompts"]["sources"][0]["columns"] = COLUMNS
    rows, record = candidates(tmp_path, Contract.model_validate({**raw, "teachers": teachers}))
    assert [row["teacher"] for row in rows] == ["people", "people"]
    counts = record.row_counts.rows_out
    assert (counts["no_reference"], counts["not_routed"], record.row_counts.rows_in) == (3, 5, 10)


def test_labels_are_no_consumer_of_tokens_and_hold_no_actor():
    contract = ordered([LABELS])
    assert list(consumers(contract)) == []
    wants = list(wanted(contract, Profile(name="toy"), ["candidates", "reports"]))
    assert [want.who for want in wants if want.job == "candidates"] == ["one task (cpu)"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"teachers": [{**LABELS, "sampling": {"n": 2}}]}, "sampling: not used with model labels"),
        ({"teachers": [{**LABELS, "system": "Count."}]}, "system: not used with model labels"),
        ({"teachers": [LABELS], "columns": {"text": "input"}}, "teachers.models.0.model: found labels, but no source"),
        ({"teachers": [LABELS], "gate": {"retention": 0.9}}, "gate.retention: needs a teacher that answers the holdout"),
        ({"teachers": [{**TRAINED, "system": "Count."}]}, "system: not used with model student, as it is prompted"),
    ],
)  # fmt: skip
def test_what_labels_cannot_do_is_refused(change, words):
    change = dict(change)
    with pytest.raises(ValueError, match=words):
        ordered(change.pop("teachers"), **change)


def test_a_contract_with_labels_is_read_back_from_its_dump():
    contract = ordered([{**LABELS, "sampling": {"max_tokens": 9}}])
    assert Contract.model_validate(json.loads(contract.model_dump_json())) == contract
