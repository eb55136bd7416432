"""Losses over target tokens: exact where the teacher is known whole, a true divergence where it is not, and their gradients."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from engine.contract.objectives import Divergence, Hidden, JensenShannon, Objectives, Process
from engine.rows import KINDS
from engine.students.data.batch import Batch, TeacherTokens
from engine.students.data.captured import Captured
from engine.students.objectives import OBJECTIVES, blend
from engine.students.objectives.hidden import by_depth
from engine.students.objectives.outputs import Outputs
from engine.students.objectives.process import rationale_weight

TOKENS, WORDS, LAST = 6, 11, 1 << 20
SECTIONS = {"forward_kl": Divergence, "reverse_kl": Divergence, "jsd": JensenShannon}


def logits(seed: int, *, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(TOKENS, WORDS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def captured(teacher: Tensor, k: int, gate: Tensor | None = None) -> TeacherTokens:
    """The `k` most likely words of the teacher's logits, and the rest's mass."""
    top, ids = teacher.log_softmax(1).topk(k)
    others = teacher.log_softmax(1).scatter(1, ids, -math.inf)
    tail = others.logsumexp(1) if k < teacher.shape[1] else torch.full((len(ids),), -math.inf, dtype=torch.float64)
    return TeacherTokens(ids, top, tail, torch.ones(len(ids), dtype=torch.bool) if gate is None else gate)


def batch(teacher: TeacherTokens | None = None, **fields: Tensor) -> Batch:
    place = torch.arange(TOKENS)
    labels = torch.arange(TOKENS) % WORDS
    return Batch(place[None], place[None], place, labels, torch.ones(TOKENS), teacher, **fields)


def losses(name: str, student: Tensor, teacher: TeacherTokens | None = None, **parameters: float) -> Tensor:
    section = SECTIONS[name](**parameters) if name in SECTIONS else None
    return OBJECTIVES[name].loss(Outputs(student.log_softmax(1)), batch(teacher), section)


def dense(name: str, student: Tensor, teacher: Tensor, *, temperature: float = 1.0, beta: float = 0.5) -> Tensor:
    """The definitions over all words, [T]."""
    q, p = ((side / temperature).log_softmax(1) for side in (student, teacher))
    m = (beta * p.exp() + (1 - beta) * q.exp()).log()
    values = {
        "forward_kl": p.exp() * (p - q),
        "reverse_kl": q.exp() * (q - p),
        "jsd": beta * p.exp() * (p - m) + (1 - beta) * q.exp() * (q - m),
    }
    return values[name].sum(1) * temperature**2


def test_sft_is_the_cross_entropy_to_the_bit() -> None:
    student = logits(0).float()
    assert torch.equal(losses("sft", student), cross_entropy(student, batch().labels, reduction="none"))


@pytest.mark.parametrize("parameters", [{}, {"temperature": 2.5}])
@pytest.mark.parametrize("name", SECTIONS)
def test_a_teacher_that_is_known_whole_gives_the_exact_divergence(name: str, parameters: dict[str, float]) -> None:
    found = losses(name, logits(0), captured(logits(1), WORDS), **parameters)
    assert torch.allclose(found, dense(name, logits(0), logits(1), **parameters), rtol=1e-9)


@pytest.mark.parametrize("beta", [0.1, 0.9])
def test_jsd_weighs_the_teacher_by_beta(beta: float) -> None:
    found = losses("jsd", logits(0), captured(logits(1), WORDS), beta=beta)
    assert torch.allclose(found, dense("jsd", logits(0), logits(1), beta=beta), rtol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(SECTIONS)), st.integers(1, WORDS - 1), st.integers(0, 10**6), st.floats(0.1, 12))
def test_a_truncated_teacher_gives_a_divergence_between_none_and_the_whole_one(name: str, k: int, seed: int, scale: float) -> None:
    student, teacher = logits(seed, scale=scale), logits(seed + 1, scale=scale)
    found, whole = losses(name, student, captured(teacher, k)), dense(name, student, teacher)
    assert bool((found >= -1e-9).all())
    assert bool((found <= whole + 1e-9).all())


@pytest.mark.parametrize("name", SECTIONS)
def test_the_student_that_is_the_teacher_has_no_divergence_and_no_gradient(name: str) -> None:
    student = logits(1).requires_grad_()
    found = losses(name, student, captured(logits(1), 4))
    found.sum().backward()
    assert student.grad is not None
    assert torch.allclose(found, torch.zeros(TOKENS, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(student.grad, torch.zeros_like(student), atol=1e-9)


@pytest.mark.parametrize("parameters", [{}, {"temperature": 0.7}])
@pytest.mark.parametrize("k", [1, 4, WORDS])
@pytest.mark.parametrize("name", SECTIONS)
def test_gradients_of_divergences_are_the_numerical_ones(name: str, k: int, parameters: dict[str, float]) -> None:
    teacher = captured(logits(1), k)
    assert torch.autograd.gradcheck(lambda student: losses(name, student, teacher, **parameters), logits(0).requires_grad_())


@pytest.mark.parametrize("name", SECTIONS)
def test_a_closed_gate_has_no_loss_and_no_gradient_whatever_is_stored_there(name: str) -> None:
    gate = torch.tensor([True, False] * 3)
    teacher = captured(logits(1), 4, gate)
    teacher.ids[1], teacher.logprobs[1], teacher.tail[1] = -1, -math.inf, -math.inf
    teacher.tail[3] = math.nan
    student = logits(0).requires_grad_()
    found = losses(name, student, teacher, temperature=2.0)
    found.sum().backward()
    assert student.grad is not None
    assert found[~gate].tolist() == [0, 0, 0] and bool((found[gate] > 0).all())
    assert bool((student.grad[~gate] == 0).all()) and bool(student.grad.isfinite().all())


@pytest.mark.parametrize("name", SECTIONS)
def test_a_constrained_teacher_pulls_mass_away_from_what_its_grammar_forbids(name: str) -> None:
    allowed = logits(1)
    allowed[:, 3:] = -math.inf
    nothing, opened = torch.full((TOKENS,), -math.inf), torch.ones(TOKENS, dtype=torch.bool)
    teacher = TeacherTokens(torch.arange(3).expand(TOKENS, 3), allowed[:, :3].log_softmax(1), nothing, opened)
    student = logits(0).float().requires_grad_()
    losses(name, student, teacher).sum().backward()
    assert student.grad is not None and bool(student.grad.isfinite().all())
    assert bool((student.grad[:, 3:].sum(1) > 0).all())


def test_a_tail_that_hardly_has_mass_keeps_its_gradient_in_float32() -> None:
    """1 less the sum of the words' probabilities is 0 here; the student must still learn that the teacher has a tail."""
    student = torch.zeros(TOKENS, WORDS)
    student[:, 0] = 40.0
    student.requires_grad_()
    first, opened = torch.zeros(TOKENS, 1, dtype=torch.int64), torch.ones(TOKENS, dtype=torch.bool)
    teacher = TeacherTokens(first, torch.full((TOKENS, 1), math.log(0.9)), torch.full((TOKENS,), math.log(0.1)), opened)
    found = losses("forward_kl", student, teacher)
    found.sum().backward()
    assert student.grad is not None
    expected = 0.9 * math.log(0.9) + 0.1 * (math.log(0.1) + 40 - math.log(WORDS - 1))
    assert found.tolist() == pytest.approx([expected] * TOKENS, rel=1e-5)
    assert student.grad[:, 1:].sum(1).tolist() == pytest.approx([-0.1] * TOKENS, rel=1e-4)


def test_forward_kl_is_the_published_loss_of_distillkit() -> None:
    """Dense: batchmean times the squared temperature. Sparse, with the missing mass spread evenly on both sides: the words'
    terms, and the missing mass times the log of its ratio, as the number of missing words cancels."""
    student, teacher, temperature = logits(0), logits(1), 3.0
    scaled = (student / temperature).log_softmax(1), (teacher / temperature).softmax(1)
    published = kl_div(*scaled, reduction="batchmean") * temperature**2
    found = losses("forward_kl", student, captured(teacher, WORDS), temperature=temperature)
    assert float(found.mean()) == pytest.approx(float(published), rel=1e-9)

    p, words = teacher.log_softmax(1).topk(4)
    q = student.log_softmax(1).gather(1, words)
    missing = [torch.log(-torch.expm1(side.logsumexp(1))) for side in (p, q)]
    sparse = (p.exp() * (p - q)).sum(1) + missing[0].exp() * (missing[0] - missing[1])
    assert torch.allclose(losses("forward_kl", student, captured(teacher, 4)), sparse, rtol=1e-9)


def test_hidden_states_that_are_alike_have_no_distance_and_gradients_are_the_numerical_ones() -> None:
    ours, theirs = logits(0), logits(1)
    for section in (Hidden(loss="mse"), Hidden(loss="cosine")):

        def loss(states: Tensor, section: Hidden = section) -> Tensor:
            return OBJECTIVES["hidden"].loss(Outputs(ours, ((states, theirs), (states, ours))), batch(), section)

        assert torch.allclose(OBJECTIVES["hidden"].loss(Outputs(ours, ((ours, ours),)), batch(), section), torch.zeros(()).double())
        assert torch.autograd.gradcheck(loss, logits(2).requires_grad_())
    mse = OBJECTIVES["hidden"].loss(Outputs(ours, ((ours, theirs),)), batch(), Hidden(loss="mse"))
    assert torch.allclose(mse, ((ours - theirs) ** 2).mean(1))


@pytest.mark.parametrize(
    ("layers", "source", "expected"),
    [(2, 3, {0: 1, 1: 2}), (3, 30, {0: 9, 1: 19, 2: 29}), (4, 4, {0: 0, 1: 1, 2: 2, 3: 3}), (3, 2, {0: 0, 1: 1, 2: 1})],
)
def test_layers_are_mapped_by_depth_and_the_last_to_the_last(layers: int, source: int, expected: dict[int, int]) -> None:
    assert by_depth(layers, source) == expected


def test_the_rationale_loses_its_weight_over_the_epochs_and_the_answer_keeps_its_own() -> None:
    keep, fade, drop = Process(schedule="keep"), Process(schedule="fade"), Process(schedule="drop_after", epochs=2)
    weights = [[rationale_weight(section, epoch, 5) for epoch in range(5)] for section in (keep, fade, drop)]
    assert weights == [[1] * 5, [1, 0.75, 0.5, 0.25, 0], [1, 1, 0, 0, 0]]
    assert rationale_weight(fade, 0, 1) == 1
    student, rationale = logits(0), torch.tensor([True, True, False, False, False, False])
    plain = losses("sft", student)
    for epoch, weight in enumerate(weights[1]):
        found = OBJECTIVES["process"].loss(Outputs(student.log_softmax(1), (), epoch, 5), batch(rationale=rationale), fade)
        assert torch.allclose(found, plain * torch.where(rationale, weight, 1.0))


@pytest.mark.parametrize("name", ["sft", "process"])
@pytest.mark.parametrize("epoch", [0, 2, 4])
def test_gradients_of_cross_entropies_are_the_numerical_ones(name: str, epoch: int) -> None:
    known, section = (
        batch(rationale=torch.tensor([True, True, False, False, False, False])),
        Process() if name == "process" else None,
    )

    def loss(student: Tensor) -> Tensor:
        return OBJECTIVES[name].loss(Outputs(student.log_softmax(1), (), epoch, 5), known, section)

    assert torch.autograd.gradcheck(loss, logits(0).requires_grad_())


def test_no_objective_over_tokens_is_without_a_check_of_its_gradient() -> None:
    assert {*SECTIONS, "sft", "process", "hidden", "uld"} == set(OBJECTIVES)  # that of uld: test_students_uld.py


def test_blends_are_found_by_kind_then_by_tier() -> None:
    by_tier = {1: {"forward_kl": 0.1, "sft": 3}, 2: {"sft": 0}}
    by_kind = {"refusal": {"forward_kl": 0, "sft": 2}}
    objectives = Objectives.model_validate({"forward_kl": 0.5, "by_kind": by_kind, "by_tier": by_tier})
    table, names = blend.table(objectives), blend.active(objectives)

    def number(kind: str, tier: int | None) -> int:
        tiers = np.array([LAST if tier is None else tier])
        return blend.numbers(objectives, np.array([KINDS.index(kind)]), tiers).item()

    def found(kind: str, tier: int | None) -> dict[str, float]:
        return dict(zip(names, table[number(kind, tier)], strict=True))

    assert found("answer", None) == found("answer", 0) == {"sft": 1.0, "forward_kl": 0.5}
    assert found("answer", 1) == {"sft": 3, "forward_kl": 0.1} and found("answer", 2) == {"sft": 0, "forward_kl": 0.5}
    assert found("refusal", 1) == found("refusal", None) == {"sft": 2, "forward_kl": 0}


def test_captured_tokens_are_padded_to_the_longest_of_the_batch() -> None:
    stored = Captured(
        starts=np.array([0, 2, 2, 5]),
        ids=np.array([7, 3, 1, 2, 9], np.int32),
        logprobs=np.array([-0.1, -3, -1, -1.1, -1.2], np.float32),
        tail=np.array([-4, 0, -5], np.float32),
        gate=np.array([True, False, True]),
    )
    found = TeacherTokens.of(stored, np.array([2, 0, 1]))
    assert found.ids.tolist() == [[1, 2, 9], [7, 3, -1], [-1, -1, -1]]
    assert found.logprobs[1].tolist() == pytest.approx([-0.1, -3, -math.inf])
    assert (found.tail.tolist(), found.gate.tolist()) == ([-5, -4, 0], [True, True, False])
    assert TeacherTokens.of(stored, np.array([1])).ids.shape == (1, 1)
