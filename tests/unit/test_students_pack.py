"""Examples become batches: the target only is learned, nothing is lost, and the order follows from seed and epoch."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.rows import EXAMPLE, from_rows
from engine.students.data import flat
from engine.students.data.pack import Packed, collate, epoch_batches, sorted_batches
from engine.students.data.tokenise import COLUMNS, tokenise


class Letters:
    """A tokenizer of single characters."""

    is_fast = True

    def apply_chat_template(self, chats: list[Any], tokenize: bool, add_generation_prompt: bool) -> dict[str, list[list[int]]]:
        assert tokenize and add_generation_prompt
        texts = ["".join(f"[{turn['role'][0]}]{turn['content']}" for turn in chat) + "[a]" for chat in chats]
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        return {"input_ids": [ord(letter) for letter in text]}


def pack(examples: pa.Table, max_tokens: int = 1000, curriculum: str = "none") -> Packed:
    pieces = [tokenise(examples.slice(start, 3).select(COLUMNS.names), Letters(), [1]) for start in range(0, len(examples), 3)]
    return flat.pack(pieces, split="train", max_tokens=max_tokens, curriculum=curriculum)


def table(*pairs: tuple[str, str], weights: tuple[float, ...] | None = None) -> pa.Table:
    rows: list[dict[str, Any]] = [
        {
            "example_id": f"{at:04}",
            "split": "train",
            "kind": "answer",
            "target": target,
            "final": target,
            "messages": [{"role": "user", "content": prompt}],
            "weight": weights[at] if weights else 1.0,
        }
        for at, (prompt, target) in enumerate(pairs)
    ]
    return from_rows(rows, EXAMPLE)


def packed(*pairs: tuple[str, str], **options: Any) -> Packed:
    return pack(table(*pairs, **options))


def many(count: int) -> Packed:
    return packed(*(("x" * (7 * number % 50), "yes") for number in range(count)))


def test_pack_puts_prompt_target_and_end_one_after_the_other() -> None:
    examples = packed(("hi", "ho"), ("a", "bcd"))
    text = "".join(chr(token) if token > 1 else "$" for token in examples.ids)
    assert text == "[u]hi[a]ho$[u]a[a]bcd$"
    assert examples.targets.tolist() == [8, 7]
    assert examples.learned.tolist() == [3, 4]


def test_pack_leaves_out_what_is_too_long_and_counts_it() -> None:
    examples = pack(table(("a", "b"), ("a" * 99, "b"), ("a", "c" * 99)), max_tokens=50)
    assert (len(examples), examples.too_long) == (1, 2)


def test_pack_of_nothing_is_empty() -> None:
    examples = pack(table(("a" * 99, "b")), max_tokens=50)
    assert (len(examples), examples.too_long, len(examples.ids)) == (0, 1, 0)


def test_collate_labels_are_the_target_and_the_end_and_nothing_else() -> None:
    examples = packed(("hi", "ho"), ("a", "bcd"), weights=(1.0, 0.5))
    batch = collate(examples, np.array([1, 0]), pad=0)
    assert "".join(map(chr, batch.labels.tolist())) == "bcd\x01ho\x01"
    assert batch.weights.tolist() == [0.5] * 4 + [1.0] * 3
    assert batch.ids.shape == batch.mask.shape == (2, 11)
    before = batch.ids.flatten()[batch.positions]  # a label is learned at the position before its token
    assert "".join(map(chr, before.tolist())) == "]bcd]ho"


def test_collate_of_a_filler_learns_nothing() -> None:
    examples = packed(("hi", "ho"))
    batch = collate(examples, np.array([-1, 0, -1]), pad=0)
    assert batch.ids.shape[0] == 3
    assert len(batch.labels) == 3
    assert batch.mask.sum(1).tolist() == [1, 11, 1]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 200])
def test_order_shows_every_example_once_an_epoch(count: int) -> None:
    rows = epoch_batches(many(count), size=8, seed=0, epoch=0)
    assert rows.shape[1] == 8
    assert sorted(rows[rows >= 0]) == list(range(count))
    assert (rows < 0).sum() < 8


def test_order_is_the_same_for_a_seed_and_an_epoch_and_differs_between() -> None:
    examples = many(100)
    first = epoch_batches(examples, size=8, seed=0, epoch=0)
    assert np.array_equal(first, epoch_batches(examples, size=8, seed=0, epoch=0))
    assert not np.array_equal(first, epoch_batches(examples, size=8, seed=0, epoch=1))
    assert not np.array_equal(first, epoch_batches(examples, size=8, seed=1, epoch=0))


def staged(curriculum: str) -> Packed:
    """60 examples of all lengths whose tiers are 0, 1, 2 and unknown, in turns, and whose difficulties fall."""
    rows = table(*(("x" * (7 * number % 50), "yes") for number in range(60))).to_pylist()
    levels = ("hard", "medium", "easy", "")
    for number, row in enumerate(rows):
        row |= {"confidence_tier": None if number % 4 == 3 else number % 4, "difficulty": levels[number % 4]}
    return pack(from_rows(rows, EXAMPLE), curriculum=curriculum)


@pytest.mark.parametrize(("curriculum", "first"), [("confidence_tier", [0, 1, 2, 3]), ("difficulty", [2, 1, 0, 3])])
def test_order_with_a_curriculum_shows_the_surest_or_easiest_first(curriculum: str, first: list[int]) -> None:
    examples = staged(curriculum)
    for epoch in (0, 1):
        rows = epoch_batches(examples, size=8, seed=0, epoch=epoch)
        place = {kind: where for where, kind in enumerate(first)}
        due = [max(place[row % 4] for row in batch if row >= 0) for batch in rows.tolist()]
        assert due == sorted(due) and set(due) == {0, 1, 2, 3}
        assert sorted(rows[rows >= 0]) == list(range(60))


def test_order_with_a_curriculum_is_drawn_anew_each_epoch_and_alike_each_time() -> None:
    first, again, next_ = (epoch_batches(staged("confidence_tier"), size=8, seed=0, epoch=epoch) for epoch in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, next_)


def test_order_without_a_curriculum_does_not_see_tiers() -> None:
    assert np.array_equal(*(epoch_batches(examples, size=8, seed=0, epoch=0) for examples in (staged("none"), many(60))))


def test_order_wastes_little_on_padding() -> None:
    examples = many(400)
    rows = epoch_batches(examples, size=8, seed=0, epoch=0)
    width = sum(8 * examples.lengths[batch].max() for batch in rows)
    assert width < 1.15 * examples.lengths.sum()


def test_sorted_batches_show_every_example_once() -> None:
    rows = sorted_batches(many(19), size=8)
    assert sorted(rows[rows >= 0]) == list(range(19))


def test_weight_counts_weighted_target_tokens() -> None:
    examples = packed(("hi", "ho"), ("a", "bcd"), weights=(1.0, 0.5))
    assert examples.weight(np.array([0, 1, -1])) == 3 + 0.5 * 4
