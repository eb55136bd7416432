"""The cap: clients that share a token budget stop when it is exhausted; every prompt is answered n times or not at all."""

import pyarrow as pa
import pytest
from judge_world import with_clients

from engine.contract.checks import Regex
from engine.contract.judges import Judges
from engine.contract.models import FakeModel, Sampling
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist, TaskUnit
from engine.contract.teachers import Teacher as TeacherSection
from engine.grading.grader import Grader
from engine.inference.client import ClientSpec
from engine.inference.engine import Completion
from engine.inference.fake import FakeEngine
from engine.inference.ledger import Ledger
from engine.inference.token_budget import TokenBudget, TokenUsage, usage_in
from engine.judges.grader_spec import GraderSpec
from engine.rows import PROMPT
from engine.storage.folder import Folder
from engine.teachers.teacher import Teacher, TeacherSpec

SAMPLE = 3  # tokens: a prompt of two words, an answer of one
PROMPT_OF_TWO = 2 * SAMPLE


def prompts(*numbers):
    base = dict.fromkeys(PROMPT.names) | {"task_unit": "form", "redacted": []}
    rows = [
        base | {"prompt_id": f"{n:02x}", "text": f"mail {n}", "messages": [{"role": "user", "content": f"mail {n}"}]}
        for n in numbers
    ]
    return pa.Table.from_pylist(rows, schema=PROMPT)


@pytest.fixture
def teacher(tmp_path):
    """Makes teachers that stand for actors: they share ledger and token budget, and each has an engine of its own."""

    def make(cap=None, *, checks=(), replies=("yes",), **sampling):
        asked = Sampling(**{"n": 2, "temperature": 0.7, **sampling})
        section = TeacherSection(name="t", model=FakeModel(type="fake", replies=replies), sampling=asked)
        specialist = Specialist(goal="g", task_units=(TaskUnit(name="form", kind="rewrite"),))
        folder = Folder(str(tmp_path))
        folders = (folder / name for name in ("ledger", "markers", "budget"))
        client = ClientSpec(section.model, Pool(), None, *folders, cap=cap, payee="t")
        return Teacher(TeacherSpec(section, specialist, client, checks=checks))

    return make


def paid(tmp_path):
    return sum(spent.tokens for spent in usage_in(Folder(str(tmp_path / "budget"))).values())


def finish_reasons(rows):
    return rows["finish_reason"].to_pylist()


def asked(*teachers):
    return sum(one.client.engine.num_answers for one in teachers if one.client.engine)


def test_teachers_stop_together_once_the_cap_is_spent(teacher, tmp_path):
    one, other = teacher(cap=3 * PROMPT_OF_TWO), teacher(cap=3 * PROMPT_OF_TWO)
    found = [worker(prompts(n)) for n, worker in enumerate([one, other, one, other, one, other])]
    assert [finish_reasons(rows) for rows in found] == [["stop"] * 2] * 3 + [["budget_exhausted"] * 2] * 3
    assert asked(one, other) == 6 and paid(tmp_path) == 3 * PROMPT_OF_TWO


def test_cap_between_two_batches_is_passed_by_the_batch_in_flight_only(teacher, tmp_path):
    worker = teacher(cap=PROMPT_OF_TWO + 1)
    for n in range(4):
        worker(prompts(n))
    assert paid(tmp_path) == 2 * PROMPT_OF_TWO


def test_without_a_cap_everything_is_asked_and_counted(teacher, tmp_path):
    assert "budget_exhausted" not in finish_reasons(teacher()(prompts(*range(4))))
    assert usage_in(Folder(str(tmp_path / "budget"))) == {"t": TokenUsage(answers=8, tokens_in=16, tokens_out=8)}


def test_unpaid_answers_are_rows_with_ids_of_their_own_and_load_no_model(teacher):
    teacher()(prompts(0))
    worker = teacher(cap=1)
    rows = worker(prompts(0, 1))
    assert finish_reasons(rows) == ["stop", "stop", "budget_exhausted", "budget_exhausted"]
    assert len(set(rows["answer_id"].to_pylist())) == 4
    assert rows["tokens_in"].to_pylist()[2:] == [0, 0] and "budget.teacher_tokens" in rows["error"].to_pylist()[2]
    assert worker.client.engine is None


def test_raised_cap_asks_only_for_what_is_missing(teacher, tmp_path):
    teacher(cap=PROMPT_OF_TWO)(prompts(0))
    assert finish_reasons(teacher(cap=PROMPT_OF_TWO)(prompts(0, 1))) == ["stop", "stop", "budget_exhausted", "budget_exhausted"]
    richer = teacher(cap=10 * PROMPT_OF_TWO)
    assert finish_reasons(richer(prompts(0, 1))) == ["stop"] * 4
    assert asked(richer) == 2 and paid(tmp_path) == 2 * PROMPT_OF_TWO


def test_answers_paid_for_but_lost_in_a_crash_count(teacher, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "record", lambda self, rows: (_ for _ in ()).throw(KeyboardInterrupt))  # as a kill between the two
        with pytest.raises(KeyboardInterrupt):
            teacher(cap=3 * PROMPT_OF_TWO)(prompts(0))
    assert paid(tmp_path) == PROMPT_OF_TWO
    again = teacher(cap=3 * PROMPT_OF_TWO)
    assert [finish_reasons(again(prompts(n)))[0] for n in range(3)] == ["stop", "stop", "budget_exhausted"]
    assert paid(tmp_path) == 3 * PROMPT_OF_TWO


def test_prompt_with_a_part_of_its_samples_is_not_answered_by_them(teacher):
    teacher(n=1)(prompts(0))
    rows = teacher(cap=1)(prompts(0))
    assert finish_reasons(rows) == ["budget_exhausted", "budget_exhausted"]
    assert finish_reasons(teacher(cap=1, n=1)(prompts(0))) == ["stop"]  # it lies in the ledger still


def test_rounds_of_a_prompt_are_finished_although_the_first_spent_the_cap(teacher):
    checks = (Regex(type="regex", field="n", pattern="1"),)
    rows = teacher(cap=1, checks=checks, replies=('{"n":2}', '{"n":1}'), n=3, stop_after_verified=1)(prompts(0))
    assert rows["answer"].to_pylist() == ['{"n":2}', '{"n":1}'] and finish_reasons(rows) == ["stop", "stop"]


def test_what_never_reached_an_engine_is_not_counted(teacher, tmp_path, monkeypatch):
    said = [Completion("", "error", 0, 0, retryable=True), Completion("", "too_long", 5000, 0)]
    monkeypatch.setattr(FakeEngine, "complete", lambda self, requests, sampling: said)
    teacher()(prompts(0))
    assert usage_in(Folder(str(tmp_path / "budget"))) == {"t": TokenUsage()}


def bar(folder, cap=None):
    model = {"type": "fake"}
    rubric = {"name": "j", "model": model, "system": "Judge.", "question": "{text} {answer}", "shots": []}
    section = Judges.model_validate({"rubrics": [rubric]})
    specialist = Specialist(goal="g", task_units=(TaskUnit(name="form", kind="rewrite"),))
    places = (folder / name for name in ("verdicts", "judge-marks", "judge-budget"))
    return with_clients(GraderSpec(section, specialist, Pool(batch=2)), *places, cap=cap)


QUESTION = 3  # tokens of `mail 0 yes`, and one for the mark


def test_unpaid_rows_are_one_pool_and_one_reason(teacher, tmp_path):
    worker = teacher(cap=PROMPT_OF_TWO)
    rows = Grader(bar(Folder(str(tmp_path))))(pa.concat_tables([worker(prompts(0)), worker(prompts(1))]))
    assert rows["pool"].to_pylist() == ["train", "train", "failure", "failure"]
    assert rows["reasons"].to_pylist()[2:] == [["finish_reason_budget_exhausted"]] * 2


def test_judge_whose_cap_is_spent_leaves_answers_to_a_person(teacher, tmp_path):
    folder, answers = Folder(str(tmp_path)), teacher(n=1)(prompts(*range(6)))
    rows = Grader(bar(folder, cap=2 * (QUESTION + 1) + 1))(answers)  # two batches of two
    assert rows["pool"].to_pylist() == ["train"] * 4 + ["review"] * 2
    assert rows["reasons"].to_pylist()[4:] == [["judge_budget_exhausted"]] * 2 and rows["confidence"].to_pylist()[4:] == [
        None,
        None,
    ]
    assert usage_in(folder / "judge-budget") == {"j": TokenUsage(4, 4 * QUESTION, 4)}


def test_judge_with_a_raised_cap_marks_only_what_is_missing(teacher, tmp_path):
    folder, answers = Folder(str(tmp_path)), teacher(n=1)(prompts(*range(6)))
    Grader(bar(folder, cap=1))(answers)
    assert Grader(bar(folder, cap=1000))(answers)["pool"].to_pylist() == ["train"] * 6
    assert usage_in(folder / "judge-budget")["j"].answers == 6


def test_token_budget_behind_a_url_is_shared(tmp_path):
    folder = Folder(f"memory://{tmp_path.name}/budget")
    first, second = TokenBudget(folder, 10), TokenBudget(folder, 10)
    first.add("a", TokenUsage(1, 4, 2))
    first.add("a", TokenUsage(1, 1, 1))
    assert not second.is_exhausted()
    second.add("b", TokenUsage(1, 2, 0))
    assert first.is_exhausted() and second.is_exhausted() and not TokenBudget(folder, 11).is_exhausted()
    assert usage_in(folder) == {"a": TokenUsage(2, 5, 3), "b": TokenUsage(1, 2, 0)}


def test_token_budget_of_a_worker_that_is_made_anew_remembers(tmp_path):
    folder = Folder(str(tmp_path))
    TokenBudget(folder, 10).add("a", TokenUsage(1, 10, 0))
    assert TokenBudget(folder, 10).is_exhausted()
