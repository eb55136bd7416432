"""On-policy training: the loss and its gradient, rewards, what is learned from, what is drawn, and the guard."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import small_tokenizer
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.capture.capturer import Capturer, CaptureSpec
from engine.capture.vocabulary import occurring, vocabulary
from engine.contract.capture import Capture
from engine.contract.models import FakeModel
from engine.contract.on_policy import Guards, OnPolicy
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist
from engine.contract.teachers import Teacher
from engine.inference.client import ClientSpec
from engine.records.capture import CaptureMetrics, TeacherCapture
from engine.records.on_policy import HeldOut
from engine.rows import Row
from engine.storage.folder import Folder
from engine.students import flow
from engine.students.data.batch import PolicyTokens
from engine.students.data.pack import collate
from engine.students.objectives.grpo import advantages, loss
from engine.students.on_policy import guard, rollouts
from engine.students.on_policy.questions import draw
from engine.students.on_policy.rewards import Rewards, rewarded
from engine.students.on_policy.sampler import Sampler, SamplerSpec
from engine.students.on_policy.schemas import QUESTION, SAMPLE

GRPO = OnPolicy(objective="grpo", rewards={"short": 3.0, "regex": 1.0}, samples=2)
UNITS = [{"name": "u", "kind": "decision", "instruction": "Say."}, {"name": "v", "kind": "decision"}]
SPECIALIST = Specialist.model_validate({"goal": "g", "task_units": UNITS})


def tokens(count: int, seed: int = 0) -> tuple[torch.Tensor, PolicyTokens]:
    values = torch.randn(4, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    old = -values[0].abs()
    return old + 0.3 * values[1], PolicyTokens(values[2], old, old + 0.5 * values[3])


@pytest.mark.parametrize("kl", [0.0, 0.2])
def test_the_gradient_of_grpo_is_the_numerical_one(kl: float) -> None:
    section = GRPO.model_copy(update={"kl": kl})
    new, policy = tokens(40)
    new.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda each: loss(each, policy, section), (new,), eps=1e-6, atol=1e-6)


def test_grpo_is_the_policy_gradient_at_the_old_weights_and_flat_where_it_is_clipped() -> None:
    _, policy = tokens(8)
    at = policy.old.clone().requires_grad_(True)
    loss(at, policy, GRPO).sum().backward()
    assert at.grad is not None and torch.allclose(at.grad, -policy.advantages)
    far = (policy.old + policy.advantages.sign()).requires_grad_(True)  # further than is asked for
    loss(far, policy, GRPO).sum().backward()
    assert far.grad is not None and not far.grad.any()


def test_the_kl_of_grpo_is_nothing_at_the_reference_and_above_elsewhere() -> None:
    new, policy = tokens(30)
    nobody = PolicyTokens(torch.zeros_like(new), new, policy.reference)
    section = GRPO.model_copy(update={"kl": 1.0})
    assert (loss(new, nobody, section) > 0).all()
    assert torch.allclose(loss(policy.reference, nobody, section), torch.zeros_like(new))


def test_advantages_are_relative_to_the_group() -> None:
    rewards = np.asarray([[1.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 1.0]])
    plain, scaled = (advantages(rewards, scale=scale) for scale in (False, True))
    assert plain[0].tolist() == [0.5, -0.5, -0.5, 0.5] and not plain[1].any() and not scaled[1].any()
    assert scaled[2] == pytest.approx((rewards[2] - 0.25) / (0.5 + 1e-4))
    assert scaled.sum(axis=1) == pytest.approx([0, 0, 0], abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 30), rounds=st.integers(1, 6), size=st.integers(1, 40))
def test_all_prompts_are_drawn_before_one_is_drawn_again(count: int, rounds: int, size: int) -> None:
    drawn = draw(count, rounds, size, np.random.default_rng(0))
    assert drawn.shape == (rounds, min(size, count)) and all(len(set(row)) == len(row) for row in drawn.tolist())
    times = np.bincount(drawn.flat, minlength=count)
    assert times.max() <= -(-rounds * drawn.shape[1] // count) + 1
    whole = rounds * drawn.shape[1] // count
    assert whole == 0 or times.min() >= min(whole, 1)


def client(folder: Path, *replies: str) -> ClientSpec:
    ledger, markers, budget = (Folder(str(folder / name)) for name in ("ledger", "markers", "budget"))
    return ClientSpec(FakeModel(type="fake", replies=replies), Pool(batch=2), None, ledger, markers, budget)


def questions(*splits: str) -> pa.Table:
    asked = [{"role": "user", "content": "say 7"}]
    same = {"task_unit": "u", "messages": [{"role": "system", "content": "Say."}, *asked], "asked": asked, "text": "say 7"}
    rows = [
        {**same, "prompt_id": f"{at:032x}", "split": split, "scenario": "", "language": "en"} for at, split in enumerate(splits)
    ]
    return pa.Table.from_pylist(rows, schema=QUESTION)


def test_samples_are_in_the_ledger_and_are_not_asked_for_again(tmp_path: Path) -> None:
    table, spec = questions("train", "held_out", "train"), SamplerSpec(GRPO, client(tmp_path), 0, 1)
    first = Sampler(spec)
    rows = first(table).to_pylist()
    assert [(row["prompt_id"][-1], row["sample"]) for row in rows] == [("0", 0), ("0", 1), ("1", 0), ("2", 0), ("2", 1)]
    again = Sampler(spec)
    assert again(table).to_pylist() == rows and first.client.engine is not None and again.client.engine is None
    later = Sampler(SamplerSpec(GRPO, client(tmp_path), 0, 2))
    ids = [[row["sample_id"] for row in each if row["split"] == "held_out"] for each in (rows, later(table).to_pylist())]
    assert ids[0] == ids[1] and later.client.engine is not None  # held-out prompts keep their seeds


def sample(number: int, answer: str = "ab", *, finish: str = "stop", reward: float = 0.0, ids: Any = (3, 4)) -> Row:
    [question] = questions("train").to_pylist()
    return {
        **question, "sample_id": f"s{number}", "sample": number, "answer": answer, "finish_reason": finish, "ids": list(ids),
        "logprob": -1.0, "error": "", "reward": reward, "failed": [],
    }  # fmt: skip


def test_rewards_are_the_weighted_share_of_passed_checks_and_nothing_without_an_end() -> None:
    from engine.contract.checks import Length, Regex

    checks = [
        Regex(type="regex", pattern="a+"), Length(type="length", name="short", max=1), Length(type="length", name="other", max=9)
    ]  # fmt: skip
    rewards = Rewards.of(checks, GRPO.rewards, SPECIALIST)
    rows = [sample(0, "b c"), sample(1, "a"), sample(2, "b"), sample(3, "a", finish="length")]
    found = rewarded(pa.Table.from_pylist(rows, schema=SAMPLE), rewards).to_pylist()
    assert [row["reward"] for row in found] == [0.0, 1.0, 0.75, 0.0]
    assert [row["failed"] for row in found] == [["regex", "short"], [], ["regex"], ["regex", "short"]]
    assert rewards.task_units == {"u", "v"}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return small_tokenizer.write(tmp_path_factory.mktemp("tokenizer"), small_tokenizer.template())


def test_groups_without_signal_are_left_out_and_counted(tokenizer: Any, tmp_path: Path) -> None:
    rows = [sample(at, reward=reward, ids=range(5, 6 + at)) for at, reward in enumerate([1, 1, 0, 1, 0, 0])]
    found = rollouts.rewarded(rows, tokenizer, samples=2, scale=False, by_answer=False)
    assert found.no_signal == pytest.approx(2 / 3) and len(found.packed) == 2 and found.packed.policy is not None
    assert found.packed.policy.advantages.tolist() == [-0.5, 0.5] and found.packed.learned.tolist() == [3, 4]
    by_answer = rollouts.rewarded(rows, tokenizer, samples=2, scale=False, by_answer=True).packed
    assert by_answer.weight(np.arange(2)) == pytest.approx(2)  # each answer counts the same
    rollouts.save(found.packed, Folder(str(tmp_path)))
    read = rollouts.load(Folder(str(tmp_path)))
    batch = collate(read, np.asarray([1, -1, 0]), pad=0)
    assert batch.policy is not None and batch.policy.advantages.tolist() == [0.5] * 4 + [-0.5] * 3
    assert batch.labels.tolist() == [5, 6, 7, 8, 5, 6, 7]


def test_samples_are_scored_by_the_capture_of_their_teacher(tokenizer: Any, tmp_path: Path) -> None:
    """The fake teacher's words are bytes; the samples are in the student's tokens, one of them without an end."""
    end = tokenizer.convert_tokens_to_ids("</s>")
    texts = ["white", "what is", ""]
    rows = [
        sample(0, texts[0], ids=[*tokenizer(texts[0])["input_ids"], end]),
        sample(1, texts[1], ids=tokenizer(texts[1])["input_ids"], finish="length"),
        sample(2, texts[2], ids=[], finish="error"),
    ]
    section = Capture(teachers={"t": 1.0}, k=8, constraint="none")
    teacher = Teacher.model_validate({"name": "t", "model": {"type": "fake"}})
    spec = CaptureSpec(section, teacher, SPECIALIST, client(tmp_path))
    asked = flow.joined(pa.Table.from_pylist(rows, schema=SAMPLE), "t")
    captured = Capturer(spec)(asked)
    words = vocabulary(FakeModel(type="fake"), None)
    counts = TeacherCapture(
        examples=2, masked=0, target_tokens=1, tokens_read=1, agreement=1, mean_k=1, mean_tail=0, bytes_per_token=1
    )
    metrics = CaptureMetrics(constraint="none", gate="none", teachers={"t": counts}, tokens_paid=0)
    scored = rollouts.Scored(captured, occurring(words, "t", range(257)), metrics)
    learned = rollouts.scored(rows, scored, tokenizer)
    assert len(learned.packed) == 2 and learned.packed.teacher is not None and learned.aligned == 1.0
    values = rollouts.divergences(rows, scored)
    first = 5 * np.log(0.6) + np.log(0.6)  # five letters and the end, each the fake's first choice
    second = 6 * np.log(0.6) + np.log(0.24)  # the seventh letter is its second choice; no end
    counts = [len(row["ids"]) for row in rows[:2]]
    assert values == pytest.approx([(first + 1.0) / counts[0], (second + 1.0) / counts[1]], abs=0.02)
    batch = collate(learned.packed, np.asarray([0, 1]), pad=0)
    assert batch.teacher is not None and batch.teacher.gate.all()


START = HeldOut(answers=9, score=0.5, ended=1.0, length=10.0, repetition=0.1, entropy=0.5)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, ""),
        ({"length": 21.0}, "mean length of the held-out answers went from 10.0 to 21.0"),
        ({"length": 4.9}, "to 4.9 tokens"),
        ({"repetition": 0.31}, "repeated 3-grams rose from 0.10 to 0.31"),
        ({"entropy": 0.04}, "entropy of a token fell from 0.500 to 0.040"),
        ({"score": 0.39}, "held-out score fell from 0.500 to 0.390"),
        ({"score": float("nan")}, "held-out score fell"),
        ({"score": 0.21, "score_error": 0.1}, ""),
        ({"score": 0.19, "score_error": 0.1}, "fell from 0.500 to 0.190, beyond chance (0.200)"),
        ({"length": 19.0, "repetition": 0.29, "entropy": 0.06, "score": 0.41}, ""),
    ],
)
def test_the_guard_names_what_collapsed(change: dict[str, float], word: str) -> None:
    found = guard.collapse(START.model_copy(update=change), START, Guards())
    assert found == "" if not word else word in found


def test_a_student_that_was_sure_before_may_be_so_after() -> None:
    sure = START.model_copy(update={"entropy": 0.01})
    assert guard.collapse(sure.model_copy(update={"entropy": 0.0}), sure, Guards()) == ""


def test_answers_are_measured() -> None:
    rows = [sample(0, "a b c a b c a b c"), sample(1, "x", finish="length", ids=[])]
    found = guard.measure(rows, [1.0, 0.0])
    assert (found.answers, found.score, found.score_error, found.ended, found.length) == (2, 0.5, 0.5, 0.5, 1.0)
    assert found.repetition == pytest.approx(4 / 7 / 2, abs=1e-6) and found.entropy == 1.0
