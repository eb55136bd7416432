import dataclasses

import pyarrow as pa
import pytest

from engine.contract.checks import Regex
from engine.contract.models import FakeModel, Sampling
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist, TaskUnit
from engine.contract.teachers import Shot, Shots
from engine.contract.teachers import Teacher as TeacherSection
from engine.inference.client import ClientSpec
from engine.inference.engine import Completion, instruct
from engine.inference.fake import FakeEngine
from engine.inference.few_shot import FewShotSelector
from engine.rows import ANSWER, PROMPT
from engine.storage.folder import Folder
from engine.teachers.teacher import Teacher, TeacherSpec


def prompts(*texts):
    base = {name: None for name in PROMPT.names} | {"task_unit": "form", "redacted": []}
    rows = [
        base | {"prompt_id": f"{index:02x}", "text": text, "messages": [{"role": "user", "content": text}]}
        for index, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=PROMPT)


def spec(tmp_path, sampling=None, *, pool=None, **model):
    section = TeacherSection(
        name="t", model=FakeModel(type="fake", **model), sampling=sampling or Sampling(n=2, temperature=0.7), system="Say it."
    )
    specialist = Specialist(goal="g", task_units=(TaskUnit(name="form", kind="rewrite"),))
    folders = (Folder(str(tmp_path / name)) for name in ("ledger", "markers", "budget"))
    return TeacherSpec(section, specialist, ClientSpec(section.model, pool or Pool(), None, *folders, payee="t"))


def test_teacher_gives_n_answers_a_prompt_with_own_seeds(tmp_path):
    rows = Teacher(spec(tmp_path, replies=("a", "b", "c", "d")))(prompts("x", "y"))
    assert rows.schema == ANSWER
    assert rows["answer"].to_pylist() == ["a", "b", "c", "d"]
    assert rows["sample"].to_pylist() == [0, 1, 0, 1]
    assert len(set(rows["seed"].to_pylist())) == 4
    assert len(set(rows["answer_id"].to_pylist())) == 4


def test_teacher_leaves_a_prompt_that_is_too_long_as_data(tmp_path):
    rows = Teacher(spec(tmp_path, max_model_len=3))(prompts("x", "one two three four"))
    assert rows["finish_reason"].to_pylist() == ["stop", "stop", "too_long", "too_long"]
    assert rows["error"].to_pylist()[2] == "4 words"


def test_teacher_marks_an_answer_that_was_cut_off(tmp_path):
    rows = Teacher(spec(tmp_path, sampling=Sampling(max_tokens=1)))(prompts("one two"))
    assert rows["finish_reason"].to_pylist() == ["length"]


def test_teacher_asks_only_for_what_is_not_paid_yet(tmp_path):
    first = Teacher(spec(tmp_path, replies=("a", "b", "c", "d")))(prompts("x"))
    second = Teacher(spec(tmp_path, replies=("a", "b", "c", "d")))
    again = second(prompts("x", "y"))
    assert again["answer"].to_pylist()[:2] == first["answer"].to_pylist()
    assert second.client.engine is not None and second.client.engine.num_answers == 2  # only the two samples of the new prompt


def test_teacher_keeps_paid_samples_when_more_are_wanted(tmp_path):
    few = Teacher(spec(tmp_path, sampling=Sampling(n=1, temperature=0.7)))(prompts("x"))
    more = Teacher(spec(tmp_path, sampling=Sampling(n=3, temperature=0.7)))(prompts("x"))
    assert few["answer_id"].to_pylist()[0] == more["answer_id"].to_pylist()[0]


def test_teacher_asked_in_another_manner_gives_other_answers(tmp_path):
    cold = Teacher(spec(tmp_path, sampling=Sampling(temperature=0.1)))(prompts("x"))
    warm = Teacher(spec(tmp_path, sampling=Sampling(temperature=0.9)))(prompts("x"))
    assert cold["answer_id"].to_pylist() != warm["answer_id"].to_pylist()


def test_shot_book_adds_the_examples_that_are_asked_alike():
    bank = [Shot(input=f"Please send {n} {what} to Bath.", output=what) for n, what in ((3, "Cups"), (5, "Mugs"), (7, "Pots"))]
    other = [Shot(input=f"When do you open on {day}?", output="none") for day in ("Monday", "Friday", "Sunday")]
    book = FewShotSelector(Shots(fixed=(Shot(input="first", output="x"),), bank=(*bank, *other), nearest=2))
    assert [said for _, said in book("When do you open on Tuesday?")] == ["x", "none", "none"]
    assert "none" not in [said for _, said in book("Please send 70 Spoons to Bath.")]


def test_shots_cannot_take_more_than_the_bank_holds():
    with pytest.raises(ValueError, match="the bank has 0"):
        Shots(nearest=1)


def test_instruct_puts_worked_examples_between_system_and_question():
    chat = instruct([{"role": "user", "content": "x"}], system="s", shots=[("q", "a")])
    assert [turn["role"] for turn in chat] == ["system", "user", "assistant", "user"]
    assert [turn["content"] for turn in chat] == ["s", "q", "a", "x"]


def thrifty(tmp_path, *replies, **sampling):
    """A teacher whose answers are verified if they are `{"n":1}`."""
    checks = (Regex(type="regex", field="n", pattern="1"),)
    plain = spec(tmp_path, sampling=Sampling(temperature=0.7, **sampling), replies=replies)
    return Teacher(dataclasses.replace(plain, checks=checks))


RIGHT, WRONG = '{"n":1}', '{"n":2}'


def test_teacher_stops_a_prompt_once_enough_answers_are_verified(tmp_path):
    teacher = thrifty(tmp_path, RIGHT, WRONG, RIGHT, n=4, stop_after_verified=1)  # first x, then y, then y again
    rows = teacher(prompts("x", "y"))
    assert list(zip(rows["text"].to_pylist(), rows["sample"].to_pylist(), rows["answer"].to_pylist(), strict=True)) == [
        ("x", 0, RIGHT), ("y", 0, WRONG), ("y", 1, RIGHT),
    ]  # fmt: skip


def test_teacher_asks_all_n_where_nothing_is_verified(tmp_path):
    rows = thrifty(tmp_path, WRONG, n=3, stop_after_verified=2)(prompts("x"))
    assert rows["sample"].to_pylist() == [0, 1, 2]


def test_thrift_asks_for_answers_that_are_paid_already(tmp_path):
    replies = (WRONG, RIGHT, WRONG)
    full = thrifty(tmp_path, *replies, n=3)(prompts("x"))
    thrift = thrifty(tmp_path, *replies, n=3, stop_after_verified=1)
    assert thrift(prompts("x"))["answer_id"].to_pylist() == full["answer_id"].to_pylist()[:2]
    assert thrift.client.engine is None


def test_a_lost_answer_is_no_paid_answer(tmp_path, monkeypatch):
    lost = Completion("", "error", 0, 0, error="the server was away", retryable=True)
    away = Teacher(spec(tmp_path, sampling=Sampling()))
    monkeypatch.setattr(FakeEngine, "complete", lambda self, requests, sampling: [lost])
    assert away(prompts("x"))["error"].to_pylist() == ["the server was away"]
    monkeypatch.undo()
    assert Teacher(spec(tmp_path, sampling=Sampling()))(prompts("x"))["answer"].to_pylist() == ["x"]


def test_teacher_asks_for_more_samples_where_the_first_differ(tmp_path):
    replies = (RIGHT, WRONG, RIGHT, RIGHT, WRONG, WRONG)  # two of x, two of y, then the rest of x alone
    rows = thrifty(tmp_path, *replies, n=4, stop_when_agreed=2)(prompts("x", "y"))
    assert list(zip(rows["text"].to_pylist(), rows["sample"].to_pylist(), rows["answer"].to_pylist(), strict=True)) == [
        ("x", 0, RIGHT), ("x", 1, WRONG), ("x", 2, WRONG), ("x", 3, WRONG), ("y", 0, RIGHT), ("y", 1, RIGHT),
    ]  # fmt: skip
    usual = thrifty(tmp_path, *replies, n=4)(prompts("x"))
    assert usual["answer_id"].to_pylist() == rows["answer_id"].to_pylist()[:4]


@pytest.mark.parametrize(("finish_reason", "count"), [("stop", 2), ("error", 4), ("length", 4)])
def test_samples_that_failed_agree_on_nothing(tmp_path, monkeypatch, finish_reason, count):
    ended = lambda self, told, how: [Completion("", finish_reason, 1, 1) for _ in told]  # noqa: E731
    monkeypatch.setattr(FakeEngine, "complete", ended)
    rows = thrifty(tmp_path, n=4, stop_when_agreed=2)(prompts("x"))
    assert rows["finish_reason"].to_pylist() == [finish_reason] * count


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ({"n": 2, "stop_when_agreed": 3}, "at most n"),
        ({"n": 4, "stop_when_agreed": 2, "stop_after_verified": 1}, "take one of them"),
    ],
)
def test_stop_when_agreed_is_possible(sampling, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**sampling)


def test_stop_after_verified_is_at_most_n():
    with pytest.raises(ValueError, match="stop_after_verified: found 3, expected at most n, which is 2"):
        Sampling(n=2, stop_after_verified=3)


def in_batches(tmp_path, size, **model):
    return Teacher(spec(tmp_path, sampling=Sampling(), pool=Pool(batch=size), **model))


def test_teacher_asks_a_block_in_batches_and_leaves_one_file_in_the_ledger(tmp_path, monkeypatch):
    asked, complete = [], FakeEngine.complete
    monkeypatch.setattr(FakeEngine, "complete", lambda self, told, how: asked.append(len(told)) or complete(self, told, how))
    rows = in_batches(tmp_path, 2)(prompts("a", "b", "c", "d", "e"))
    assert rows["answer"].to_pylist() == ["a", "b", "c", "d", "e"]
    assert asked == [2, 2, 1]
    assert len(Folder(str(tmp_path / "ledger")).files()) == 1


def test_teacher_killed_in_a_block_pays_only_the_batch_in_flight_again(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def dies_on_e(self, requests, sampling):
        if requests[0].chat[-1]["content"] == "e":
            raise Killed
        return complete(self, requests, sampling)

    complete, texts = FakeEngine.complete, prompts("a", "b", "c", "d", "e", "f")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(FakeEngine, "complete", dies_on_e)
        in_batches(tmp_path, 2)(texts)
    again = in_batches(tmp_path, 2)
    assert again(texts)["answer"].to_pylist() == ["a", "b", "c", "d", "e", "f"]
    assert again.client.engine is not None and again.client.engine.num_answers == 2


def test_runs_that_share_a_ledger_pay_once(tmp_path):
    one = spec(tmp_path, replies=("a", "b"))
    Teacher(one)(prompts("x"))
    client = dataclasses.replace(one.client, markers=Folder(str(tmp_path / "other" / "markers")))
    other = Teacher(dataclasses.replace(one, client=client))
    assert other(prompts("x"))["answer"].to_pylist() == ["a", "b"]
    assert other.client.engine is None


def test_teacher_without_prompts_gives_an_empty_table(tmp_path):
    assert Teacher(spec(tmp_path))(prompts()).equals(ANSWER.empty_table())


@pytest.mark.parametrize(
    ("rows", "batch", "actors", "answers", "block"),
    [
        (300, 50, 1, 2, 50),  # few: batch by batch
        (100_000, 50, 1, 1, 2000),
        (10**8, 50, 1, 1, 2000),
        (10**8, 50, 1, 4, 500),
        (100_000, 1024, 4, 1, 1024),
        (10**8, 1024, 4, 1, 2048),
        (10**8, 4096, 1, 4, 4096),  # never less than a batch
    ],
)
def test_block_is_whole_batches_and_bounded(rows, batch, actors, answers, block):
    assert Pool(batch=batch, actors=actors).block(rows, answers=answers) == block
