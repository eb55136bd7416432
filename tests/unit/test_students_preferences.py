"""Preference pairs: what they are packed to, which step has which, and what the objectives over them learn."""

import math
import string
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError
from tokenizers import Tokenizer, models
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import PreTrainedTokenizerFast

from engine.contract.objectives import Dpo, Objectives, Orpo, Simpo
from engine.contract.students import Student
from engine.errors import InputError
from engine.records.record import Identity
from engine.rows import PREFERENCE, from_rows
from engine.storage.artifact import Artifact, ArtifactWriter, RowCounts
from engine.storage.folder import Folder
from engine.students.data import pairs
from engine.students.data.pairs import PackedPairs, collate_pairs, pairs_of_step, shared
from engine.students.objectives import PAIR_OBJECTIVES
from engine.students.objectives.outputs import PairOutputs
from engine.students.training import preferences

SECTIONS = {"dpo": Dpo, "orpo": Orpo, "simpo": Simpo}


@cache
def letters() -> Any:
    """A tokenizer of single characters."""
    words = Tokenizer(models.BPE(vocab={word: at for at, word in enumerate(["<pad>", "</s>", *string.printable])}, merges=[]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>")
    turn = "{{ m['content'] }}{{ '>' if m['role'] == 'user' else '</s>' }}"
    tokenizer.chat_template = "{% for m in messages %}" + turn + "{% endfor %}"
    return tokenizer


def read(ids: Any) -> str:
    return "".join(letters().convert_ids_to_tokens(ids.tolist())).replace("</s>", "$")


def table(*answers: tuple[str, str], split: str = "train") -> pa.Table:
    def turn(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    rows = [
        {
            "pair_id": str(number),
            "prompt": turn("user", f"say {number}"),
            "chosen": turn("assistant", chosen),
            "rejected": turn("assistant", rejected),
            "margin": 0.5,
            "split": split,
        }
        for number, (chosen, rejected) in enumerate(answers)
    ]
    return from_rows(rows, PREFERENCE)


def dataset(folder: Path, rows: pa.Table) -> Artifact:
    writer = ArtifactWriter(Folder(str(folder / "dataset")))
    writer.put("preferences", rows, PREFERENCE)
    return writer.finish(Identity("dataset", {}, {}, "0"), RowCounts(1, {"kept": 1}))


def load(folder: Path, rows: pa.Table, *, max_tokens: int) -> PackedPairs:
    return pairs.load(dataset(folder, rows), "k", letters(), split="train", max_tokens=max_tokens, home=folder / "files")


def outputs(seed: int) -> PairOutputs:
    """Five pairs with log-probabilities in float64."""
    generator = torch.Generator().manual_seed(seed)
    sums = [-3 * torch.rand(5, generator=generator, dtype=torch.float64) - 0.1 for _ in range(4)]
    tokens = torch.arange(1, 6, dtype=torch.float64)
    return PairOutputs(sums[0], sums[1], tokens, tokens.flip(0), sums[2], sums[3])


def test_pairs_are_packed_side_by_side_and_audited(tmp_path: Path) -> None:
    packed = load(tmp_path, table(("yes", "no"), ("same", "same"), ("a", "bbbbbbb"), ("x" * 99, "y")), max_tokens=50)
    assert read(packed.sequences.ids) == "say 0>yes$say 0>no$say 2>a$say 2>bbbbbbb$"
    assert packed.chosen.learned.tolist() == [4, 2]
    audit = packed.audit
    assert (audit.pairs, audit.too_long, audit.equal, audit.chosen_longer, audit.margin) == (2, 1, 1, 0.5, 0.5)
    assert audit.length_ratio == pytest.approx((4 / 3 + 2 / 8) / 2, abs=1e-4)


def test_a_batch_of_pairs_has_the_chosen_answers_first_and_their_reference(tmp_path: Path) -> None:
    packed = load(tmp_path, table(("yes", "no"), ("a", "bb"), ("c", "d")), max_tokens=50)
    batch = collate_pairs(packed, np.array([2, 0, -1]), reference=np.arange(6, dtype=np.float32), pad=0)
    words = [read(batch.sequences.labels[batch.sequences.owners == row]) for row in range(6)]
    assert words == ["c$", "yes$", "", "d$", "no$", ""]
    assert (batch.reference.tolist(), batch.weights.tolist()) == ([4, 0, 0, 5, 1, 0], [1, 1, 0])


@pytest.mark.parametrize(("count", "steps"), [(7, 3), (3, 7), (100, 9), (1, 1)])
def test_an_epoch_shows_every_pair_once_in_an_order_of_its_own(count: int, steps: int) -> None:
    def order(epoch: int, seed: int = 0) -> list[list[int]]:
        return [pairs_of_step(count, step=step, steps=steps, seed=seed, epoch=epoch).tolist() for step in range(steps)]

    assert sorted(pair for pairs in order(0) for pair in pairs) == list(range(count))
    assert max(map(len, order(0))) - min(map(len, order(0))) <= 1
    assert order(0) == order(0) and (count < 8 or order(0) != order(1) != order(1, seed=1))


@pytest.mark.parametrize(("pairs", "micro", "world"), [(5, 2, 2), (1, 4, 2), (8, 2, 2), (0, 2, 1)])
def test_workers_and_micro_batches_share_the_pairs_of_a_step(pairs: int, micro: int, world: int) -> None:
    shares = [shared(np.arange(pairs), micro=micro, world=world, rank=rank) for rank in range(world)]
    assert {share.shape for share in shares} == {(micro, -(-pairs // (micro * world)))}
    assert sorted(row for share in shares for row in share.ravel().tolist() if row >= 0) == list(range(pairs))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [*((name, {}) for name in SECTIONS), ("dpo", {"beta": 0.5, "label_smoothing": 0.2}), ("simpo", {"label_smoothing": 0.2})],
)
def test_gradients_of_preference_losses_are_the_numerical_ones(name: str, parameters: dict[str, float]) -> None:
    section, fixed = SECTIONS[name](**parameters), outputs(0)
    assert set(SECTIONS) == set(PAIR_OBJECTIVES)

    def loss(chosen: Tensor, rejected: Tensor) -> Tensor:
        return PAIR_OBJECTIVES[name].loss(replace(fixed, chosen=chosen, rejected=rejected), section)

    assert torch.autograd.gradcheck(loss, (fixed.chosen.requires_grad_(), fixed.rejected.requires_grad_()))


def test_dpo_of_the_reference_itself_is_the_log_of_two() -> None:
    fixed = outputs(0)
    same = PairOutputs(fixed.chosen, fixed.rejected, fixed.chosen_tokens, fixed.rejected_tokens, fixed.chosen, fixed.rejected)
    assert PAIR_OBJECTIVES["dpo"].loss(same, Dpo()).tolist() == pytest.approx([math.log(2)] * 5)


def test_losses_are_their_published_formulas() -> None:
    fixed = outputs(1)
    ratio = fixed.chosen - fixed.reference_chosen - fixed.rejected + fixed.reference_rejected
    assert torch.allclose(PAIR_OBJECTIVES["dpo"].loss(fixed, Dpo(beta=0.3)), -logsigmoid(0.3 * ratio))
    chosen, rejected = (fixed.chosen / fixed.chosen_tokens).exp(), (fixed.rejected / fixed.rejected_tokens).exp()
    odds = (chosen / (1 - chosen)) / (rejected / (1 - rejected))
    assert torch.allclose(PAIR_OBJECTIVES["orpo"].loss(fixed, Orpo(beta=0.3)), -chosen.log() - 0.3 * logsigmoid(odds.log()))
    margin = 2.5 * (chosen.log() - rejected.log()) - 0.7
    assert torch.allclose(PAIR_OBJECTIVES["simpo"].loss(fixed, Simpo(beta=2.5, gamma=0.7)), -logsigmoid(margin))


def test_orpo_of_an_answer_that_is_certain_stays_finite() -> None:
    zero = torch.zeros(1, requires_grad=True)
    pair = PairOutputs(zero, -torch.ones(1), torch.ones(1), torch.ones(1), zero, zero)
    loss = PAIR_OBJECTIVES["orpo"].loss(pair, Orpo())
    loss.sum().backward()
    assert bool(loss.isfinite().all()) and zero.grad is not None and bool(zero.grad.isfinite().all())


def student(**objectives: Any) -> Student:
    changes = {"name": "s", "init": {"prune": {"source": "x", "layers": [0]}}, "max_tokens": 20, "objectives": objectives}
    return Student.model_validate(changes)


def test_a_split_without_pairs_that_can_be_learned_is_refused_with_what_makes_them(tmp_path: Path) -> None:
    rows = pa.concat_tables([table(("yes", "no")), table(("same", "same"), ("x" * 30, "y"), split="validation")])
    with pytest.raises(InputError, match=r"no validation pair.*of 2 pairs 1 are longer.* 1 have two equal.*curation.preferences"):
        preferences.load(dataset(tmp_path, rows), "k", letters(), student(dpo=1), home=tmp_path / "files")


def test_without_an_objective_over_examples_the_batches_are_of_pairs(tmp_path: Path) -> None:
    made = dataset(tmp_path, pa.concat_tables([table(("yes", "no")), table(("a", "b"), split="validation")]))
    for objectives, alone in (({"sft": 0, "dpo": 1}, True), ({"sft": 0.1, "dpo": 1}, False)):
        assert preferences.load(made, "k", letters(), student(**objectives), home=tmp_path / "files").is_alone == alone


def test_workers_of_a_node_map_pairs_that_were_tokenised_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pa.concat_tables([table(*(("yes" * (n % 4), f"no{n}") for n in range(30))), table(("a", "b"), split="validation")])
    shuffled, tokenised = rows.take(np.random.default_rng(0).permutation(31)), list[int]()
    tokenise = pairs.tokenise
    monkeypatch.setattr(pairs, "tokenise", lambda *given: tokenised.append(len(given[0])) or tokenise(*given))
    first, second = (load(tmp_path, shuffled, max_tokens=20) for _ in range(2))
    assert sum(tokenised) == 60 and isinstance(second.sequences.ids, np.memmap) and isinstance(second.chosen.ids, np.memmap)
    for ours, theirs in ((first.sequences, second.sequences), (first.chosen, second.chosen)):
        assert all(np.array_equal(getattr(ours, name), getattr(theirs, name)) for name in ("ids", "starts", "targets", "weights"))
    ids = sorted(map(str, range(30)))
    for found, texts in ((second.chosen, "yes"), (second.sequences, "")):
        assert len(found) == (30 if texts else 60)
        ends = zip(found.starts[:-1], found.starts[1:], strict=True)
        answers = [read(found.ids[start:end]) for start, end in ends][:: 1 if texts else 2]
        assert answers == [f"say {number}>{'yes' * (int(number) % 4)}$" for number in ids]


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ({"sft": 0}, "nothing would be learned"),
        ({"process": 1}, "write `sft: 0` beside it"),
        ({"sft": 0, "uld": 1}, "uld: compares sorted probabilities, .* give sft a weight"),
        ({"sft": 0, "uld": 1, "hidden": 1}, "uld: compares sorted"),
        ({"sft": 0, "uld": 1, "by_kind": {"refusal": {"sft": 1}}}, "uld: compares sorted"),
        ({"uld": 1, "by_tier": {0: {"sft": 0}}}, "by_tier.0.uld: compares sorted"),
        ({"uld": {"temperature": 2}}, "uld.temperature"),
        ({"sft": 0, "process": {"schedule": "drop_after"}}, "expected a number for the schedule drop_after"),
        ({"by_kind": {"refusal": {"jsd": 1}}}, "by_kind.refusal.jsd: jsd is not ordered"),
        ({"by_kind": {"boundary": {"sft": 1}}}, "by_kind.boundary"),
        ({"hidden": {"layers": {}}}, "expected at least one pair of layers"),
        ({"jsd": {"beta": 1}}, "less than 1"),
        ({"forward_kl": {"temperature": 0}}, "greater than 0"),
        ({"dpo": {"label_smoothing": 0.5}}, "less than 0.5"),
    ],
)
def test_objectives_that_cannot_be_learned_are_refused(objectives: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Objectives.model_validate(objectives)


def test_keys_that_are_not_written_leave_no_trace_in_a_recipe_and_a_number_is_a_weight() -> None:
    assert Objectives().model_dump_json() == '{"sft":1.0}'
    blend = {"sft": 0.0, "forward_kl": None, "reverse_kl": None, "jsd": None, "hidden": None, "process": None}
    assert Objectives.model_validate({"by_tier": {0: {"sft": 0}}}).model_dump()["by_tier"] == {0: blend}
    assert Objectives.model_validate({"uld": 1, "by_tier": {0: {"uld": 0}}}).model_dump()["by_tier"][0]["uld"] == 0
    assert Objectives.model_validate({"dpo": 0.5}) == Objectives.model_validate({"dpo": {"weight": 0.5}})
    assert Objectives.model_validate({"forward_kl": {"weight": 0}, "by_kind": {"answer": {"forward_kl": 1}}}).reads_capture
    assert not Objectives.model_validate({"forward_kl": 0}).reads_capture
