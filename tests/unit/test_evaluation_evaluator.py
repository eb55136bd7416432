"""Baselines and the evaluator, with fake models."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from engine.contract.evaluation import Nearest, Rules
from engine.contract.models import FakeModel, Sampling
from engine.contract.profile import Pool
from engine.contract.specialist import TaskUnit
from engine.contract.teachers import Shot, Shots, Thinks
from engine.errors import ContractError, ModelError
from engine.evaluation import answers
from engine.evaluation.answers import Asked, EvalLedger
from engine.evaluation.baseline import TrainingExamples, build_baseline, user_text
from engine.evaluation.evaluator import EvalTarget, Evaluator, evenly_spaced, failed
from engine.evaluation.predict import predictions
from engine.evaluation.size import model_size
from engine.inference.engine import Completion, Request
from engine.inference.fake import FakeEngine
from engine.storage.folder import Folder

UNIT = TaskUnit.model_validate({"name": "echo", "kind": "rewrite", "instruction": "Repeat."})


def ask(baseline, text: str) -> str:
    [completion] = baseline.complete([Request([{"role": "user", "content": text}], 0, 0.0)], Sampling())
    return completion.text


def row(index: int, text: str, *, reference: str | None = None, scenario: str = "plain") -> dict:
    about = {"layer": "core", "difficulty": "easy", "task_unit": "echo", "text": text, "scenario": scenario}
    turns = [{"role": "user", "content": text}]
    return {"prompt_id": str(index), "messages": turns, "reference": text if reference is None else reference, **about}


def fake(**changes) -> EvalTarget:
    fields = {"name": "echo", "role": "student", "model": FakeModel(type="fake"), "units": {"echo": UNIT}}
    return EvalTarget(**(fields | changes))


def test_rules_try_patterns_in_order_and_leave_the_rest_null() -> None:
    fields = {"number": (r"order number (\w+)", r"no\. (\w+)"), "colour": (r"red|blue",), "size": (r"size (\d+)",)}
    rules = build_baseline(Rules(type="rules", fields=fields), TrainingExamples())
    assert json.loads(ask(rules, "blue, no. A1, order number B2")) == {"number": "B2", "colour": "blue", "size": None}
    assert json.loads(ask(rules, "no. A1")) == {"number": "A1", "colour": None, "size": None}


def test_rules_with_a_broken_pattern_are_refused_by_the_contract(tmp_path: Path) -> None:
    from engine.contract.sections import parse

    with pytest.raises(ContractError, match=r"fields\.number: '\(' is not a regular expression"):
        parse(Rules, {"type": "rules", "fields": {"number": ["("]}}, where=tmp_path)


def test_nearest_copies_the_answer_of_the_most_similar_example() -> None:
    examples = TrainingExamples(
        ["red tea cups, please", "a ladder for the garden", "three blue chairs"], ["cups", "ladder", "chairs"]
    )
    nearest = build_baseline(Nearest(type="nearest"), examples)
    assert ask(nearest, "we need a garden ladder") == "ladder"
    assert ask(nearest, "chairs in blue") == "chairs"
    assert ask(nearest, "zzz") == "cups"  # nothing in common: the first


def test_nearest_without_examples_ends_as_error() -> None:
    [completion] = build_baseline(Nearest(type="nearest"), TrainingExamples()).complete([Request([], 0, 0.0)], Sampling())
    assert (completion.finish_reason, completion.text) == ("error", "")


def test_user_text_leaves_out_system_and_assistant() -> None:
    turns = [("system", "s"), ("user", "one"), ("assistant", "a"), ("user", "two")]
    assert user_text([{"role": role, "content": content} for role, content in turns]) == "one\n\ntwo"


@pytest.mark.parametrize(("rows", "count", "chosen"), [(10, 5, [0, 2, 4, 6, 8]), (3, 40, [0, 1, 2]), (7, 3, [0, 2, 4]), (0, 4, [])])
def test_timed_rows_are_even_and_never_twice_the_same(rows: int, count: int, chosen: list[int]) -> None:
    assert evenly_spaced(rows, count) == chosen


def test_evaluator_asks_each_prompt_once_and_answers_in_order() -> None:
    rows = [row(index, f"text {index}") for index in range(7)]
    evaluator = Evaluator(fake(), Pool(batch=2))
    evaluated = evaluator.evaluate(rows, 3)
    assert [completion.text for completion in evaluated.completions] == [f"text {index}" for index in range(7)]
    assert evaluator.engine.num_answers == 7 + 1  # type: ignore[attr-defined] - one more to warm up
    assert sorted(evaluated.seconds) == [0, 2, 4]
    assert all(seconds > 0 for seconds in evaluated.seconds.values())
    assert evaluated.tokens_per_second is not None and evaluated.memory_mib is not None and evaluated.memory_mib > 10


def test_request_of_a_teacher_shows_its_examples_and_of_a_student_only_the_instruction() -> None:
    teacher = fake(role="teacher", systems={"echo": "Be brief."}, shots=Shots(fixed=(Shot(input="in", output="out"),)))
    roles = [(turn["role"], turn["content"]) for turn in teacher.request(row(0, "now")).chat]
    assert roles == [("system", "Be brief."), ("user", "in"), ("assistant", "out"), ("user", "now")]
    student = fake(systems={"echo": UNIT.instruction})
    assert [turn["content"] for turn in student.request(row(0, "now")).chat] == ["Repeat.", "now"]


def test_request_is_constrained_to_the_schema_unless_the_teacher_is_free() -> None:
    unit = TaskUnit.model_validate({"name": "echo", "kind": "extraction", "output": {"json_schema": {"type": "object"}}})
    assert fake(units={"echo": unit}).request(row(0, "x")).json_schema == {"type": "object"}
    assert fake(units={"echo": unit}, structured=False).request(row(0, "x")).json_schema is None


def test_a_student_that_reasons_is_free_to_and_graded_by_what_it_ends_with() -> None:
    unit = TaskUnit.model_validate(
        {"name": "echo", "kind": "extraction", "output": {"json_schema": {"type": "object"}}, "supervise": "process"}
    )
    student = fake(units={"echo": unit}, model=FakeModel(type="fake", replies=('I see one. {"n":1}',)))
    rows = [row(0, "x", reference='{"n":1}')]
    assert student.request(rows[0]).json_schema is None
    assert fake(units={"echo": unit}, role="teacher").request(rows[0]).json_schema == {"type": "object"}
    evaluated = Evaluator(student, Pool()).evaluate(rows, 0)
    [completion] = predictions(
        student, rows, evaluated, scenarios=(), final=lambda answer, unit: answer[answer.index("{") :]
    ).to_pylist()
    assert (completion["answer"], completion["valid"], completion["exact"]) == ('{"n":1}', True, True)


def test_predictions_say_what_was_seen_and_what_was_right() -> None:
    target = fake(max_tokens=3)
    rows = [row(0, "a b", scenario="known"), row(1, "c", reference="d", scenario="new"), row(2, "one two three four")]
    evaluated = Evaluator(target, Pool()).evaluate(rows, 1)
    table = predictions(target, rows, evaluated, scenarios={"known", "plain"}).to_pydict()
    assert table["exact"] == [True, False, False]
    assert table["finish_reason"] == ["stop", "stop", "length"]
    assert table["seen"] == [True, False, True]
    assert table["valid"] == [None, None, None]
    assert table["seconds"][0] > 0 and table["seconds"][1:] == [None, None]
    assert table["confidence"] == pytest.approx([np.exp(-0.1)] * 3)


def test_predictions_count_a_cut_answer_as_wrong_even_if_it_says_the_same() -> None:
    target = fake(max_tokens=2)
    rows = [row(0, "one two three", reference="one two")]
    [cut] = predictions(target, rows, Evaluator(target, Pool()).evaluate(rows, 0), scenarios=()).to_pylist()
    assert (cut["answer"], cut["exact"]) == ("one two", False)


def test_evaluator_becomes_another_target_of_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool, int]] = []

    def complete(self: FakeEngine, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        asked.extend((each.chat[0]["content"], each.json_schema is not None, sampling.max_tokens) for each in requests)
        return [Completion("x", "stop", 1, 1) for _ in requests]

    monkeypatch.setattr(FakeEngine, "complete", complete)
    unit = UNIT.model_copy(update={"output": UNIT.output.model_copy(update={"json_schema": {"type": "object"}})})
    units = {"echo": unit}
    evaluator = Evaluator(fake(units=units, systems={"echo": "one"}), Pool())
    evaluator.evaluate([row(0, "a")], 0)
    evaluator.become(fake(units=units, systems={"echo": "two"}, structured=False, max_tokens=9))
    evaluator.evaluate([row(0, "a")], 0)
    assert asked[0][:2] == ("one", True) and asked[-1] == ("two", False, 9)


def test_predictions_of_a_model_that_failed_are_errors_and_wrong() -> None:
    rows = [row(0, ""), row(1, "b")]
    table = predictions(fake(), rows, failed(2, "no weights"), scenarios=()).to_pydict()
    assert table["finish_reason"] == ["error", "error"]
    assert table["exact"] == [False, False]  # an empty reference is not met by an error


def test_size_counts_parameters_from_the_headers(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 3, "max_position_embeddings": 64}')
    save_file({"a": np.zeros((4, 5), np.float32), "b": np.zeros(7, np.float16)}, tmp_path / "one.safetensors")
    save_file({"c": np.zeros((2, 2, 2), np.float32)}, tmp_path / "two.safetensors")
    size = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    assert model_size(tmp_path) == (20 + 7 + 8, 3, 64, size)


@pytest.mark.parametrize(("section", "per_int"), [("{}", 8), ('{"bits": 4}', 8), ('{"bits": 8}', 4), ('{"bits": 3}', 32 / 3)])
def test_size_counts_packed_weights_by_their_bits(section: str, per_int: float, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(f'{{"quantization_config": {section}}}')
    layer = {"qweight": np.zeros((6, 16), np.int32), "scales": np.zeros((1, 16), np.float16), "g_idx": np.zeros(64, np.int32)}
    plain = {"my_scales.weight": np.zeros(5, np.float32), "layer_scales": np.zeros(3, np.float32)}
    save_file({**{f"a.{name}": tensor for name, tensor in layer.items()}, **plain}, tmp_path / "model.safetensors")
    assert model_size(tmp_path).parameters == round(6 * 16 * per_int) + 5 + 3


def test_evaluator_fetches_a_model_from_a_remote_folder() -> None:
    Folder("memory://runs/s/model").write("config.json", b'{"num_hidden_layers": 2}')
    evaluator = Evaluator(fake(folder="memory://runs/s/model"), Pool())
    assert evaluator.size.layers == 2


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_size_of_a_damaged_folder_says_which(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_text('{"half')
    with pytest.raises(ModelError, match=r"config\.json or its weights cannot be read"):
        model_size(tmp_path)


def test_rules_of_the_order_mails_read_a_plain_mail_and_leave_out_what_it_does_not_say() -> None:
    fields = yaml.safe_load((Path(__file__).parents[2] / "jobs/contracts/order_mail/rules.yaml").read_text())
    rules = build_baseline(Rules(type="rules", fields=fields), TrainingExamples())
    plain = "Hello,\nour order number is 46331. We would like 30 tape measures.\nKind regards,\nNadia Shaw"
    assert json.loads(ask(rules, plain)) == {"order_number": "46331", "product": "tape measures", "quantity": "30"}
    closed = "Hello, our office is closed until Monday.\nBen Green"
    assert json.loads(ask(rules, closed)) == {"order_number": None, "product": None, "quantity": None}


def test_a_teacher_that_thinks_is_graded_by_what_follows() -> None:
    model = FakeModel(type="fake", replies=("<think>well</think> 42", "<think>well"))
    thinker = fake(role="teacher", model=model, structured=False, thinks=Thinks())
    evaluator = Evaluator(thinker, Pool())
    evaluated = evaluator.evaluate([row(0, "a"), row(1, "b")], timed=0)
    assert {(completion.text, completion.finish_reason) for completion in evaluated.completions} == {("42", "stop"), ("", "error")}


class DiesAfter(FakeEngine):
    """A fake engine whose process is gone after some batches of more than one prompt."""

    batches = 2

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        if len(requests) > 1:
            if not self.batches:
                raise ModelError("gone")
            self.batches -= 1
        return super().complete(requests, sampling)


def test_a_killed_evaluation_asks_only_for_what_was_not_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(index, f"text {index}") for index in range(12)]
    ledger = EvalLedger(rows=Folder(f"{tmp_path}/paid"), own=Folder(f"{tmp_path}/own"))

    def evaluator(name: str = "echo", **changes: Any) -> Evaluator:
        return Evaluator(fake(name=name, **changes), Pool(batch=3), ledger)

    monkeypatch.setattr("engine.inference.fake.FakeEngine", DiesAfter)
    with pytest.raises(ModelError, match="gone"):
        evaluator().evaluate(rows, 2)
    monkeypatch.undo()
    again = evaluator()
    evaluated = again.evaluate(rows, 2)
    assert again.engine.num_answers == 12 - 2 - 2 * 3 + 1  # type: ignore[attr-defined] - one to warm up
    assert [completion.text for completion in evaluated.completions] == [f"text {index}" for index in range(12)]
    assert sorted(evaluated.seconds) == [0, 6] and evaluated.tokens_per_second
    third = evaluator(name="renamed")  # the same model, asked the same
    assert third.evaluate(rows, 2)[:3] == evaluated[:3]
    assert third.engine.num_answers == 0  # type: ignore[attr-defined]
    for changes in ({"model": FakeModel(type="fake", replies=("x",))}, {"systems": {"echo": "Be brief."}}, {"max_tokens": 5}):
        other = evaluator(**changes)
        other.evaluate(rows, 2)
        assert other.engine.num_answers == 12 + 1  # type: ignore[attr-defined]


def test_what_another_machine_has_timed_is_timed_again_and_its_answers_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row(index, f"text {index}") for index in range(12)]
    ledger = EvalLedger(rows=Folder(f"{tmp_path}/paid"), own=Folder(f"{tmp_path}/own"))

    def evaluated(machine: str) -> tuple[Any, int]:
        monkeypatch.setattr(answers, "machine", lambda: machine)
        evaluator = Evaluator(fake(), Pool(batch=3), ledger)
        return evaluator.evaluate(rows, 2), evaluator.engine.num_answers  # type: ignore[attr-defined]

    first, count = evaluated("laptop")
    assert count == 12 + 1
    kept, count = evaluated("laptop")
    assert kept[:3] == first[:3] and count == 0
    again, count = evaluated("server")
    assert count == 1 + 2 + 3 and again.seconds.keys() == first.seconds.keys()  # one to warm up, those alone, a batch
    assert again.seconds != first.seconds and again.tokens_per_second != first.tokens_per_second
    assert [each.text for each in again.completions] == [each.text for each in first.completions]


def test_engines_of_one_model_share_its_batches_through_the_ledger(tmp_path: Path) -> None:
    rows = [row(index, f"text {index}") for index in range(20)]

    def evaluators(folder: str, count: int) -> list[Evaluator]:
        ledger = EvalLedger(rows=Folder(f"{tmp_path}/{folder}/paid"), own=Folder(f"{tmp_path}/{folder}/own"))
        return [Evaluator(fake(), Pool(batch=3), ledger) for _ in range(count)]

    own, *_ = together = evaluators("shared", 3)
    assert own.batches_left(rows, 2) == 5
    own.time(rows, 2)
    for part, each in enumerate(together):
        each.answer(rows, 2, part, len(together))
    assert own.batches_left(rows, 2) == 0
    evaluated = own.evaluate(rows, 2)
    [alone] = evaluators("alone", 1)
    assert [each.text for each in evaluated.completions] == [each.text for each in alone.evaluate(rows, 2).completions]
    assert sorted(evaluated.seconds) == [0, 10]
    late, *_ = evaluators("shared", 1)
    late.answer(rows, 2, 0, 1)  # nothing is left, and it does not even warm up
    assert late.engine.num_answers == 0  # type: ignore[attr-defined]
    # 2 alone, then 6 batches of 3: one is timed, and the other five are dealt; each engine warms up once
    assert [each.engine.num_answers for each in together] == [1 + 2 + 3 + 6, 1 + 6, 1 + 3]  # type: ignore[attr-defined]


def test_an_engine_that_has_answered_ahead_is_timed_as_a_fresh_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It forgets the prefixes of what it has answered, and answers nothing that is timed before it is."""
    events: list[list[str]] = []

    class Noting(FakeEngine):
        def reset_prefix_cache(self) -> None:
            events.append(["reset"])

        def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
            events.append([str(request.chat[-1]["content"]).removeprefix("text ") for request in requests])
            return super().complete(requests, sampling)

    monkeypatch.setattr("engine.inference.fake.FakeEngine", Noting)
    rows = [row(index, f"text {index}") for index in range(10)]

    def sent(parts: int) -> list[list[str]]:
        events.clear()
        ledger = EvalLedger(rows=Folder(f"{tmp_path}/{parts}/paid"), own=Folder(f"{tmp_path}/{parts}/own"))
        evaluator = Evaluator(fake(role="teacher"), Pool(batch=3), ledger)
        for part in range(parts):
            evaluator.answer(rows, 2, part, parts)
        evaluator.time(rows, 2)
        evaluator.evaluate(rows, 2)
        return [*events]

    fresh, ahead = sent(0), sent(2)
    assert fresh == [["Hello."], ["0"], ["5"], ["1", "2", "3"], ["4", "6", "7"], ["8", "9"]]
    assert ahead == [["Hello."], *fresh[4:], ["reset"], *fresh[:4]]


def test_an_engine_that_fails_ends_only_the_evaluation_of_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: FakeEngine, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        raise TypeError("a bug")

    monkeypatch.setattr(FakeEngine, "complete", broken)
    ledger = EvalLedger(rows=Folder(f"{tmp_path}/paid"), own=Folder(f"{tmp_path}/own"))
    evaluator = Evaluator(fake(), Pool(), ledger)
    monkeypatch.setattr(evaluator, "_warm_up", lambda rows: None)
    with pytest.raises(ModelError, match="TypeError: a bug"):
        evaluator.evaluate([row(0, "x")], 0)


def test_a_kept_answer_is_the_whole_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every field of a completion comes back from the ledger; the time is that of its batch."""
    whole = Completion("4", "stop", 7, 1, -0.5, 0.25, "", False, (), "two and two")
    monkeypatch.setattr(FakeEngine, "complete", lambda self, requests, sampling: [whole] * len(requests))
    ledger = EvalLedger(rows=Folder(f"{tmp_path}/paid"), own=Folder(f"{tmp_path}/own"))
    asked = Asked("aa", Request([{"role": "user", "content": "x"}], 0, 0.0))
    for _ in range(2):
        evaluator = Evaluator(fake(), Pool(), ledger)
        assert evaluator.answers
        with evaluator.answers.block([asked]):
            [answer] = evaluator.answers({"k": asked}, Sampling()).values()
        assert answer._replace(seconds=0.25, trajectory=()) == whole
        monkeypatch.setattr(FakeEngine, "complete", lambda self, requests, sampling: 1 / 0)


def test_keys_of_kept_answers_stay(tmp_path: Path) -> None:
    """A key that changes is an answer that is paid for again."""
    evaluator = Evaluator(fake(), Pool(), EvalLedger(rows=Folder(f"{tmp_path}/paid"), own=Folder(f"{tmp_path}/own")))
    asked = [Asked("aa", Request([{"role": "user", "content": "x"}], 0, 0.0, {"type": "object"}))]
    assert evaluator.answers
    assert evaluator.answers.keys(asked, Sampling(max_tokens=9), alone=[True], tools="t") == ["8f02fb731291e6e87a53a81fe41e60e3"]
