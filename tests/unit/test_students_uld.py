"""Universal logit distillation: the distance over all words where the teacher is known whole, a bound of it where it is not."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from engine.contract.objectives import Uld
from engine.students.data.batch import Batch, TeacherTokens
from engine.students.objectives import OBJECTIVES
from engine.students.objectives.outputs import Outputs

TOKENS, WORDS = 6, 11
OPEN = torch.ones(TOKENS, dtype=torch.bool)


def logits(seed: int, *, scale: float = 2.0, words: int = WORDS) -> Tensor:
    return scale * torch.randn(TOKENS, words, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def captured(teacher: Tensor, k: int, gate: Tensor = OPEN, *, own: bool = False) -> TeacherTokens:
    """The `k` most likely words of the teacher's logits and the rest's mass; with `own` also its least likely word."""
    log_probs = teacher.log_softmax(1)
    ids = log_probs.topk(k).indices
    ids = torch.cat([ids, log_probs.argmin(1, keepdim=True)], dim=1) if own else ids
    others = log_probs.scatter(1, ids, -math.inf)
    return TeacherTokens(ids, log_probs.gather(1, ids), others.logsumexp(1), gate)


def losses(student: Tensor, teacher: TeacherTokens) -> Tensor:
    place = torch.arange(TOKENS)
    batch = Batch(place[None], place[None], place, place % WORDS, torch.ones(TOKENS), teacher)
    return OBJECTIVES["uld"].loss(Outputs(student.log_softmax(1)), batch, Uld())


def dense(student: Tensor, teacher: Tensor) -> Tensor:
    """The cheapest transport between both distributions over all words, token by token: which word pays for which is searched."""
    found = []
    for ours, theirs in zip(student.softmax(1), teacher.softmax(1), strict=True):
        costs = (ours[:, None] - theirs[None, :]).abs()
        found.append(costs[linear_sum_assignment(costs.numpy())].sum())
    return torch.stack(found)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 8))
def test_a_teacher_that_is_known_whole_gives_the_distance_over_all_words(seed: int, scale: float) -> None:
    student, teacher = logits(seed, scale=scale), logits(seed + 1, scale=2.0)
    assert torch.allclose(losses(student, captured(teacher, WORDS)), dense(student, teacher), atol=1e-12)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, WORDS - 2), st.integers(0, 10**6), st.floats(0.1, 8), st.floats(0.1, 8), st.booleans())
def test_a_truncated_teacher_gives_a_bound_that_misses_at_most_two_tails(
    k: int, seed: int, ours: float, theirs: float, own: bool
) -> None:
    student, teacher = logits(seed, scale=ours), logits(seed + 1, scale=theirs)
    known = captured(teacher, k, own=own)
    found, whole = losses(student, known), dense(student, teacher)
    assert bool((found >= 0).all()) and bool((found <= whole + 1e-9).all())
    assert bool((whole <= found + 2 * known.tail.exp() + 1e-9).all())


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("k", [1, 4, WORDS - 1])
def test_a_student_whose_words_are_those_of_the_teacher_in_another_order_has_no_loss(k: int, own: bool) -> None:
    teacher = logits(1)
    order = torch.randperm(WORDS, generator=torch.Generator().manual_seed(5))
    found = losses(teacher[:, order], captured(teacher, k, own=own and k < WORDS - 1))
    assert torch.allclose(found, torch.zeros_like(found), atol=1e-12)
    assert losses(logits(2), captured(teacher, max(k, 4))).min() > 0.01  # another one has a loss


def test_neither_the_names_of_words_nor_the_order_in_which_they_are_stored_matter() -> None:
    student, teacher = logits(0), logits(1)
    order = torch.randperm(WORDS, generator=torch.Generator().manual_seed(5))
    expected = losses(student, captured(teacher, 5))
    assert torch.allclose(losses(student[:, order], captured(teacher, 5)), expected, rtol=1e-12)
    assert torch.allclose(losses(student, captured(teacher[:, order], 5)), expected, rtol=1e-12)
    known, turned = captured(teacher, 5), torch.tensor([3, 0, 4, 1, 2])
    stored = TeacherTokens(known.ids[:, turned], known.logprobs[:, turned], known.tail, known.gate)
    assert torch.allclose(losses(student, stored), expected, rtol=1e-12)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("k", [1, 4, WORDS - 2])
def test_gradients_are_the_numerical_ones(k: int, own: bool) -> None:
    teacher = captured(logits(1), k, own=own)
    assert torch.autograd.gradcheck(lambda student: losses(student, teacher), logits(0).requires_grad_())


def test_gradients_are_the_numerical_ones_where_the_teacher_is_known_whole() -> None:
    teacher = captured(logits(1), WORDS)
    assert torch.autograd.gradcheck(lambda student: losses(student, teacher), logits(0).requires_grad_())


def test_a_closed_gate_has_no_loss_and_no_gradient_whatever_is_stored_there() -> None:
    gate = torch.tensor([True, False] * 3)
    teacher = captured(logits(1), 4, gate)
    teacher.ids[1], teacher.logprobs[1], teacher.tail[1] = -1, -math.inf, -math.inf
    teacher.logprobs[3], teacher.tail[3] = math.nan, math.nan
    student = logits(0).requires_grad_()
    found = losses(student, teacher)
    found.sum().backward()
    assert student.grad is not None
    assert found[~gate].tolist() == [0, 0, 0] and bool((found[gate] > 0).all())
    assert bool((student.grad[~gate] == 0).all()) and bool(student.grad.isfinite().all())


def test_a_token_with_fewer_words_than_others_of_its_batch_has_the_loss_that_it_has_alone() -> None:
    student, teacher = logits(0), logits(1)
    few, many = captured(teacher, 2), captured(teacher, 7)
    padding = torch.full((TOKENS, 5), -1), torch.full((TOKENS, 5), -math.inf, dtype=torch.float64)
    padded = TeacherTokens(torch.cat([few.ids, padding[0]], 1), torch.cat([few.logprobs, padding[1]], 1), few.tail, few.gate)
    assert torch.equal(losses(student, padded), losses(student, few))
    assert not torch.allclose(losses(student, many), losses(student, few))


def test_a_student_that_is_too_sure_learns_of_a_tail_whose_words_nobody_knows() -> None:
    """The teacher's first word has 0.6, the others are in the tail: only `too much` can say it."""
    first, logs = torch.zeros(TOKENS, 1, dtype=torch.int64), torch.tensor([[0.6, 0.4]] * TOKENS).log()
    student = torch.zeros(TOKENS, WORDS)
    student[:, 3] = 9.0
    found = losses(student.requires_grad_(), TeacherTokens(first, logs[:, :1], logs[:, 1], OPEN))
    found.sum().backward()
    assert found.tolist() == pytest.approx([2 * (float(student.detach()[0].softmax(0)[3]) - 0.6)] * TOKENS, rel=1e-5)
    assert student.grad is not None
    assert bool((student.grad[:, 3] > 0).all()) and bool((student.grad[:, 4:] < 0).all())


def test_a_student_that_is_surer_than_the_teacher_can_be_has_a_loss_though_the_tail_is_larger_than_any_word() -> None:
    first, logs = torch.zeros(TOKENS, 1, dtype=torch.int64), torch.tensor([[0.3, 0.7]] * TOKENS).log()
    student = torch.full((TOKENS, WORDS), -50.0)
    student[:, 3], student[:, 5] = math.log(0.95), math.log(0.05)
    assert losses(student, TeacherTokens(first, logs[:, :1], logs[:, 1], OPEN)).tolist() == pytest.approx([0.5] * TOKENS, rel=1e-5)


def test_a_tail_that_may_hold_likelier_words_is_not_taken_for_a_late_rank() -> None:
    """One word with 0.2 is known, as where a token of the student is several of the teacher; a word of the tail may have 0.8."""
    first, opened = torch.zeros(TOKENS, 1, dtype=torch.int64), OPEN
    teacher = TeacherTokens(first, torch.full((TOKENS, 1), math.log(0.2)), torch.full((TOKENS,), math.log(0.8)), opened)
    student = torch.full((TOKENS, WORDS), -50.0)
    student[:, 0], student[:, 7] = math.log(0.2), math.log(0.8)
    assert losses(student, teacher).abs().max() < 1e-6


def test_words_that_a_grammar_forbids_lose_their_mass() -> None:
    allowed = logits(1)
    allowed[:, 3:] = -math.inf
    teacher = TeacherTokens(
        torch.arange(3).expand(TOKENS, 3), allowed[:, :3].log_softmax(1), torch.full((TOKENS,), -math.inf).double(), OPEN
    )
    found = losses(logits(0), teacher)
    assert torch.allclose(found, dense(logits(0), allowed), atol=1e-12)


class Largest(TorchDispatchMode):
    """Notes the most elements of a tensor that an operation makes."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        outputs = made if isinstance(made, tuple | list) else (made,)
        self.elements = max([self.elements, *(each.numel() for each in outputs if isinstance(each, Tensor))])
        return made


def test_no_tensor_over_all_words_is_made() -> None:
    student, teacher = logits(0, words=5000).log_softmax(1).requires_grad_(), captured(logits(1), 4)
    batch = Batch(*(torch.arange(TOKENS)[None],) * 2, *(torch.arange(TOKENS),) * 2, torch.ones(TOKENS), teacher)
    with Largest() as seen:
        OBJECTIVES["uld"].loss(Outputs(student), batch, Uld())
    assert seen.elements == TOKENS * 4
