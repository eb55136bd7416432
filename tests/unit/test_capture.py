"""Capture of the teacher's distributions: what is scored, what is paid, and what is stored in how many bytes."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.capture.capturer import JOINED, Capturer, CaptureSpec
from engine.capture.compact import code, cut, decode, entries, joined, level, pack, probabilities, unpack
from engine.capture.summary import metrics_of, summary
from engine.capture.vocabulary import ending, vocabulary
from engine.contract.capture import Capture
from engine.contract.models import FakeModel, VllmModel
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist
from engine.contract.teachers import Teacher
from engine.inference import ledger
from engine.inference.client import ClientSpec
from engine.inference.engine import Request
from engine.inference.fake import END, FakeEngine
from engine.inference.few_shot import FewShotSelector
from engine.inference.ledger import Ledger
from engine.inference.scoring import Distribution, Masks, Target
from engine.inference.turn_end import target_tokens
from engine.records.capture import CaptureMetrics
from engine.storage.folder import Folder
from engine.teachers.teacher import prompt_of
from tests.small_tokenizer import template, write

SCHEMA = {"type": "object", "properties": {"n": {"type": "string"}}}
UNIT = {"name": "u", "kind": "extraction", "instruction": "Fill in.", "output": {"json_schema": SCHEMA}}
SPECIALIST = Specialist.model_validate({"goal": "g", "task_units": [UNIT]})
SHOTS = {"fixed": [{"input": "a", "output": "b"}], "bank": [{"input": "send 3 cups", "output": "3"}], "nearest": 1}


def teacher(**changes: Any) -> Teacher:
    return Teacher.model_validate({"name": "t", "model": {"type": "fake"}, "system": "Read.", "shots": SHOTS, **changes})


def spec(folder: Any, capture: dict[str, Any] | None = None, *, cap: int | None = None, **changes: Any) -> CaptureSpec:
    section, folders = teacher(**changes), (Folder(str(folder / name)) for name in ("ledger", "markers", "budget"))
    client = ClientSpec(FakeModel(type="fake"), Pool(batch=4), None, *folders, cap=cap, payee="capture")
    return CaptureSpec(Capture.model_validate(capture or {}), section, SPECIALIST, client, fallback_of=("t", "other"))


def examples(*targets: str, **changes: Any) -> pa.Table:
    asked = [{"role": "user", "content": "send 7"}]
    same = {"task_unit": "u", "teacher": "t", "reasoning": "", "asked": asked, "text": "send 7"}
    rows = [
        {
            **same, "example_id": f"{at:02x}", "answer_id": f"{at:02x}", "prompt_id": f"{at:02x}", "target": target,
            "messages": [{"role": "system", "content": "Fill in."}, *asked],
        }
        | changes
        for at, target in enumerate(targets)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=JOINED)


def scored(rng: np.random.Generator, tokens: int, vocabulary: int, k: int, scale: float = 4.0) -> tuple[Distribution, np.ndarray]:
    """A random distribution as an engine returns it, and the dense one [T, V] that it was taken from."""
    logits = rng.normal(0, scale, (tokens, vocabulary))
    dense = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    target = rng.integers(0, vocabulary, tokens)
    target[::2] = dense[::2].argmax(axis=1)
    order = np.argsort(-dense, axis=1)[:, :k]
    best = np.take_along_axis(dense, order, axis=1)
    tail = np.log(np.maximum(1 - np.exp(best).sum(axis=1), 1e-12))
    own = dense[np.arange(tokens), target]
    columns = (order.astype(np.int32), best.astype(np.float32), own.astype(np.float32), tail.astype(np.float32))
    return Distribution(target.astype(np.int32), *columns, tokens), dense


def test_the_prompt_is_the_one_with_which_the_answer_was_asked(tmp_path) -> None:
    capturer = Capturer(spec(tmp_path))
    [row] = examples('{"n":"7"}').to_pylist()
    asked = prompt_of(
        teacher(), SPECIALIST, FewShotSelector(teacher().shots), {**row, "messages": row["asked"]}, system=teacher().system
    )
    target = capturer.target(row)
    assert isinstance(asked, Request) and target == Target(asked.chat, '{"n":"7"}', "", asked.json_schema)
    assert [turn["content"] for turn in target.chat] == ["Read.", "a", "b", "send 3 cups", "3", "send 7"]
    later = [*row["messages"], {"role": "assistant", "content": "x"}, {"role": "user", "content": "no"}]
    assert [turn["content"] for turn in capturer.target({**row, "messages": later}).chat][-3:] == ["send 7", "x", "no"]


def test_reasoning_stands_before_the_target_and_a_capture_without_constraint_has_no_schema(tmp_path) -> None:
    capturer = Capturer(spec(tmp_path, {"constraint": "none"}, structured=False, thinks={}))
    [row] = examples("7", reasoning="seven").to_pylist()
    assert capturer.target(row)[1:] == ("7", "<think>\nseven\n</think>\n\n", None, ())


def test_a_target_is_stored_with_its_end_its_agreement_and_its_mask(tmp_path) -> None:
    rows = Capturer(spec(tmp_path, {"k": 4}))(examples('{"n":"7"}', "no such form")).to_pylist()
    first, second = (unpack(row) for row in rows)
    assert [row["masked"] for row in rows] == [True, False]
    assert bytes(first.targets[:-1].tolist()) == b'{"n":"7"}' and first.targets[-1] == END
    assert first.ranks.tolist() == [0, 0, 0, 0, 0, 0, 1, 0, 0, 0]  # the fake's second choice at every seventh byte
    assert set(np.diff(first.starts)) == {2} and set(np.diff(second.starts)) == {4}
    probs, tails = probabilities(first)
    assert probs[:2] == pytest.approx([1 / 1.4, 0.4 / 1.4], rel=0.02) and not tails.any()


def test_what_is_paid_is_not_paid_again_also_for_fewer_entries_and_another_gate(tmp_path) -> None:
    table = examples('{"n":"7"}', '{"n":"8"}')
    whole = Capturer(spec(tmp_path, {"k": 16, "constraint": "none"}))
    fewer = Capturer(spec(tmp_path, {"k": 3, "gate": "agree", "constraint": "none"}))
    by_mass = Capturer(spec(tmp_path, {"mass": 0.9, "most": 12, "constraint": "none"}))
    stored = whole(table)
    assert stored.equals(Capturer(spec(tmp_path, {"constraint": "none"}))(table)) and whole.client.engine is not None
    counts = [[np.diff(unpack(row).starts).tolist() for row in each(table).to_pylist()] for each in (fewer, by_mass)]
    assert {count for row in counts[0] for count in row} == {3} and {count for row in counts[1] for count in row} == {3}
    assert fewer.client.engine is None and by_mass.client.engine is None
    more = Capturer(spec(tmp_path, {"k": 17, "constraint": "none"}))
    more(table)
    assert more.client.engine is not None  # 32 are paid for: what 16 hold is not enough


MOMENTS = [(place, nth) for place in ("distributions", "record", "write_shard") for nth in (1, 2, 3)] + [("merge", 1)]


@pytest.mark.parametrize(("place", "nth"), MOMENTS)
def test_a_capture_that_is_killed_ends_with_the_same_rows(tmp_path, monkeypatch, place: str, nth: int) -> None:
    """Before and after a batch is paid, while it is recorded, and while the ledger's files are merged."""
    table = examples(*(f'{{"n":"{number}"}}' for number in range(11)))
    unbroken = Capturer(spec(tmp_path / "a"))(table)
    owner, name = {
        "distributions": (FakeEngine, "distributions"), "record": (Ledger, "record"), "write_shard": (ledger, "write_shard"),
        "merge": (Ledger, "_merge"),
    }[place]  # fmt: skip
    call, calls, asked = getattr(owner, name), [0], list[int]()
    ask = FakeEngine.distributions

    def dying(*values: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == nth:
            raise SystemExit
        return call(*values, **options)

    def counting(self: FakeEngine, targets: Any, k: int) -> Any:
        asked.append(len(targets))
        return ask(self, targets, k)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, dying)
        with pytest.raises(SystemExit):
            Capturer(spec(tmp_path / "b"))(table)
    monkeypatch.setattr(FakeEngine, "distributions", counting)
    assert Capturer(spec(tmp_path / "b"))(table).equals(unbroken)
    done = 3 if place == "merge" else nth - 1
    assert asked == [4, 4, 3][done:]


def test_the_budget_ends_a_capture_and_the_rest_is_data(tmp_path) -> None:
    rows = Capturer(spec(tmp_path, cap=30))(examples(*(f"{number}2345678" for number in range(9)))).to_pylist()
    assert [row["finish_reason"] for row in rows] == ["stop"] * 4 + ["budget_exhausted"] * 5


def test_examples_that_no_teacher_wrote_are_scored_by_the_first_one(tmp_path) -> None:
    table = pa.concat_tables([examples("a", teacher="t"), examples("b", teacher=""), examples("c", teacher="other")])
    only = {"default": spec(tmp_path), "all": spec(tmp_path, {"teachers": ["t"]})}
    assert {name: Capturer(each)(table).num_rows for name, each in only.items()} == {"default": 2, "all": 3}


def test_a_log_probability_in_a_byte_is_near_and_stored_columns_are_read_as_they_were() -> None:
    values = -np.geomspace(1e-4, 19.9, 500)
    back = decode(code(values))
    assert (np.abs(back - values) <= 0.5 * 20 / 255 * 2 * np.sqrt(-values / 20) + 20 / 255**2).all()
    assert decode(code(np.array([-np.inf, 0.0, -99.0]))).tolist() == [-20.0, 0.0, -20.0]
    found, _ = scored(np.random.default_rng(0), 30, 70_000, 16)
    stored = entries(found)
    again = unpack(pack(stored))
    assert pack(stored)["wide"] and all(np.array_equal(*pair) for pair in zip(stored, again, strict=True))
    assert np.array_equal(stored.targets, found.tokens) and not pack(entries(scored(np.random.default_rng(0), 3, 99, 5)[0]))["wide"]


@pytest.mark.parametrize("scale", [1.0, 6.0, 8.0])
def test_loss_from_bytes_is_within_a_percent_of_the_loss_from_the_same_words_in_full(scale: float) -> None:
    rng = np.random.default_rng(1)
    found, dense = scored(rng, 400, 500, 64, scale)
    student = dense + rng.normal(0, 0.5, dense.shape)
    student -= np.log(np.exp(student).sum(axis=1, keepdims=True))
    whole = (np.exp(dense) * (dense - student)).sum()

    def loss(probs: np.ndarray, tails: np.ndarray, stored: Any) -> float:
        given = student[stored.tokens, stored.ids]
        rest = np.log(np.maximum(1 - np.bincount(stored.tokens, np.exp(given), len(tails)), 1e-12))
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = (probs * (np.log(probs) - given)).sum() + np.where(tails > 0, tails * (np.log(tails) - rest), 0.0).sum()
        return float(terms)

    stored = entries(found)
    full = np.exp(dense[stored.tokens, stored.ids])
    exact = loss(full, np.maximum(1 - np.bincount(stored.tokens, full, 400), 1e-12), stored)
    assert loss(*probabilities(stored), stored) == pytest.approx(exact, rel=0.01)
    if scale > 1:  # the mass beyond 64 of 500 nearly equal words cannot be known
        assert exact == pytest.approx(whole, rel=0.01)


def test_a_cut_capture_is_the_smaller_one() -> None:
    found, _ = scored(np.random.default_rng(2), 50, 300, 64)
    whole = entries(found)
    small = entries(found._replace(
        ids=found.ids[:, :8], logprobs=found.logprobs[:, :8],
        tail=np.logaddexp(found.tail, np.log(np.exp(found.logprobs[:, 8:]).sum(axis=1))),
    ))  # fmt: skip
    made = cut(whole, k=8)
    for name in ("starts", "ids", "ranks", "codes"):
        assert np.array_equal(getattr(made, name), getattr(small, name)), name
    assert np.abs(made.tails.astype(int) - small.tails.astype(int)).max() <= 1
    adaptive = cut(whole, k=64, mass=0.9)
    _, tails = probabilities(adaptive)
    is_target_extra = np.diff(adaptive.starts) == adaptive.ranks + 1
    assert (1 - tails)[~is_target_extra].min() >= 0.89 and np.diff(adaptive.starts).mean() < 40
    assert level(16) == 16 and level(17) == 32


def test_record_names_agreement_entries_tail_and_bytes(tmp_path) -> None:
    rows = Capturer(spec(tmp_path, {"k": 4}))(examples("abcdefghijklm", "12345678901"))
    measured = metrics_of([summary(rows), summary(rows.slice(0, 0))], size=260)
    assert (measured.examples, measured.target_tokens, measured.masked) == (2, 26, 0)
    assert measured.agreement == pytest.approx(23 / 26, abs=1e-6) and measured.mean_k == 4 and measured.bytes_per_token == 10
    assert measured.mean_tail == pytest.approx(0.4**4, rel=0.1)
    [text] = CaptureMetrics(constraint="answer", gate="none", teachers={"t": measured}, tokens_paid=1).lines
    assert text.startswith("t: 26 target tokens of 2 examples; the first choice is the target at 88.5%; 4.0 entries")
    assert joined([]).starts.tolist() == [0]
    known = CaptureMetrics(constraint="answer", gate="none", teachers={"t": measured}, tokens_paid=1, aligned={"0a": 0.25})
    assert known.lines == [text, "tokenizer 0a: 25.0% of the target tokens can be laid on it"]


GEMMA = "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}<end>\n{% endfor %}"


def test_a_target_ends_as_the_teachers_template_ends_a_turn(tmp_path) -> None:
    answers = GEMMA + "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
    reasons = GEMMA + "{% if add_generation_prompt %}<s>assistant\n<think>\n{% endif %}"  # no turn of it begins so
    for number, (text, expected) in enumerate(
        {answers: ("<end>",), reasons: ("<end>",), template(): (), "{{ none.x }}": ()}.items()
    ):
        loaded = write(tmp_path / str(number), text)
        found = ending(tmp_path / str(number))
        assert loaded.convert_ids_to_tokens(found) == list(expected)
        words = vocabulary(VllmModel(type="vllm", path="x"), tmp_path / str(number)).to_pylist()
        assert {row["text"].decode() for row in words if row["ends"]} == {"</s>", *expected}  # an engine stops at both
        tokens = target_tokens(loaded, Target([], "white", ending=found))
        assert loaded.decode(tokens) == "white" + (expected or ("</s>",))[0]


def test_a_mask_holds_to_the_end_of_a_turn_also_where_it_is_no_end_of_sequence(tmp_path) -> None:
    loaded = write(tmp_path, template())
    [end] = loaded.convert_tokens_to_ids(["<end>"])
    tokens = target_tokens(loaded, Target([], '{"n":"7"}', ending=(end,)))
    assert Masks(loaded, len(loaded)).of(SCHEMA, tokens) is None  # its stop token is another one
    masks = Masks(loaded, len(loaded), (end,)).of(SCHEMA, tokens)
    assert masks is not None and len(masks) == len(tokens)
    allowed = [token for token in range(len(loaded)) if masks[-1][token // 32] >> (token % 32) & 1]
    assert set(allowed) == {end, loaded.eos_token_id}
    line = loaded("\n", add_special_tokens=False)["input_ids"][0]
    both = Masks(loaded, len(loaded), (line, end)).of(SCHEMA, np.array([*tokens[:-1], line, end], np.int32))
    assert both is not None and (both[-2:] == -1).all() and not (both[:-2] == -1).all(axis=1).any()
