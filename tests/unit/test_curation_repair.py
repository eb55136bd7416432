"""Failed answers that a model mends."""

from dataclasses import replace

import pyarrow as pa
import pytest
from derived_world import SPECIALIST, answer, form, table, wrong

from engine.contract.curation import Curation
from engine.contract.derived import RepairExamples
from engine.contract.profile import Pool
from engine.curation import contrastive as lessons
from engine.curation.repair import Repair, RepairSpec
from engine.inference.client import ClientSpec
from engine.inference.fake import FakeEngine
from engine.inference.token_budget import usage_in
from engine.rows import EXAMPLE
from engine.storage.folder import Folder

MENDING = {"type": "rewrite", "checks": [{"type": "json_schema"}, {"type": "grounded"}]}


def unsolved(*rows):
    section = Curation.model_validate({"contrastive": [MENDING | {"model": {"type": "fake"}}], "semantic": None})
    assert lessons.contrastive_examples(table(*rows), SPECIALIST, section).num_rows == 0  # a model's work is no rule's
    return lessons.unsolved(table(*rows), SPECIALIST, section)


def spec(tmp_path, *replies, cap=None):
    folders = (Folder(str(tmp_path / name)) for name in ("ledger", "markers", "budget"))
    kind = RepairExamples.model_validate(MENDING | {"model": {"type": "fake", "replies": replies}})
    return RepairSpec(kind, SPECIALIST, ClientSpec(kind.model, Pool(batch=2), None, *folders, cap=cap, payee="rewrite"))


def mended(rewriter, rows):
    return pa.concat_tables(rewriter(rows)).to_pylist()


def test_answer_is_mended_only_where_none_was_accepted():
    assert unsolved(answer("a", form()), wrong()).num_rows == 0
    [row] = unsolved(wrong("w1"), wrong("w2")).to_pylist()
    assert (row["example_id"], row["fault"], row["kind"]) == ("w1-rewrite", "the input does not say item=chair", "rewrite")


def test_mended_answer_is_the_target_behind_the_failed_one(tmp_path):
    [made] = mended(Repair(spec(tmp_path, form())), unsolved(wrong()))
    assert made["target"] == '{"number":"7","item":"lamps"}'
    assert [turn["role"] for turn in made["messages"]] == ["system", "user", "assistant", "user"]
    assert set(made) == set(EXAMPLE.names)


@pytest.mark.parametrize("reply", [form(item="bench"), form(item="chair"), "no form", ""])
def test_reply_that_fails_a_check_or_changes_nothing_is_no_example(tmp_path, reply):
    assert mended(Repair(spec(tmp_path, reply)), unsolved(wrong())) == []


def test_mending_is_paid_once_and_never_again(tmp_path):
    rows = unsolved(wrong(), *(wrong(f"w{n}", prompt_id=f"{n}") for n in range(4)))
    first = mended(Repair(spec(tmp_path, form())), rows)
    again = Repair(spec(tmp_path, form()))
    assert len(first) == 5 and mended(again, rows) == first and again.client.engine is None
    assert usage_in(Folder(str(tmp_path / "budget")))["rewrite"].answers == 5


def test_mending_stops_when_the_budget_is_spent(tmp_path):
    rows = unsolved(wrong(), *(wrong(f"w{n}", prompt_id=f"{n}") for n in range(4)))
    assert len(mended(Repair(spec(tmp_path, form(), cap=1)), rows)) == 2  # the batch that was begun
    assert len(mended(Repair(spec(tmp_path, form())), rows)) == 5


def test_braces_of_input_and_answer_stay_as_they_are(tmp_path, monkeypatch):
    turns, complete = [], FakeEngine.complete

    def spy(self, requests, sampling):
        turns.extend(request.chat[-1]["content"] for request in requests)
        return complete(self, requests, sampling)

    monkeypatch.setattr(FakeEngine, "complete", spy)
    [row] = unsolved(wrong()).to_pylist()
    mended(Repair(spec(tmp_path)), pa.Table.from_pylist([row | {"text": "{answer}", "answer": "{fault}", "fault": "{text}"}]))
    assert turns[0].startswith("{answer}\n\nAnswer: {fault}\n\nThis does not hold: {text}.")


@pytest.mark.parametrize(("reference", "count"), [('{"number": 7}', 1), ('{"number": 8}', 0)])
def test_mended_answer_is_compared_with_the_reference_of_its_prompt(tmp_path, reference, count):
    given = spec(tmp_path, form())
    compares = [{"type": "numeric", "field": "number", "abs_tol": 0.0, "reference": {"field": "number"}}]
    section = RepairExamples.model_validate(given.section.model_dump() | {"checks": compares})
    assert len(mended(Repair(replace(given, section=section)), unsolved(wrong(reference=reference)))) == count
