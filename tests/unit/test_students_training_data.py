"""What is known of a training from its examples, before it begins."""

from pathlib import Path
from typing import Any

import pytest

from engine.contract.students import Student
from engine.errors import InputError
from engine.records.record import Identity
from engine.records.tokens import TokenizerSummary, TokensMetrics
from engine.rows import PREFERENCE, TOKENS, from_rows
from engine.storage import shards
from engine.storage.artifact import Artifact, ArtifactWriter, RowCounts
from engine.storage.folder import Folder
from engine.students.data import flat
from engine.students.init.tokenizer import description
from jobs.steps.training_data import check


def student(**changes: Any) -> Student:
    init = {"prune": {"source": "x", "layers": [0]}}
    return Student.model_validate({"name": "s", "init": init, "batch_size": 8, "epochs": 2, **changes})


def rows(count: int, *, tokens: int = 10, weight: float = 1.0, split: str = "train") -> list[dict[str, Any]]:
    same = {"split": split, "kind": "answer", "target_start": 4, "weight": weight, "spans": []}
    return [{**same, "example_id": f"{split}{number:03}", "ids": list(range(tokens + number % 3))} for number in range(count)]


def source(folder: Path) -> Path:
    """A model that reads 50 tokens."""
    (folder / "config.json").write_text('{"n_positions": 50}')
    return folder


def artifacts(folder: Path, examples: list[dict[str, Any]]) -> tuple[Artifact, Artifact]:
    """A dataset with five pairs for training, and the tokens of `examples`."""
    summary = TokenizerSummary(
        key="k", made_from=[description(student())], students=["s"], words=9, turn_end=[], tokens=9, target_tokens=9, longest=12
    )
    dataset = ArtifactWriter(Folder(str(folder / "dataset")))
    dataset.put(
        "preferences", from_rows([{"pair_id": str(number), "split": "train"} for number in range(5)], PREFERENCE), PREFERENCE
    )
    tokens = ArtifactWriter(Folder(str(folder / "tokens")), metrics=TokensMetrics(tokenizers=[summary]))
    pieces = [from_rows(examples[at : at + 7], TOKENS) for at in range(0, len(examples), 7)]
    tokens.tables["examples_k"] = shards.write_pieces(tokens.folder / "examples_k", pieces, TOKENS, shard_rows=10)
    done = RowCounts(1, {"all": 1})
    return dataset.finish(Identity("dataset", {}, {}, "0"), done), tokens.finish(Identity("tokens", {}, {}, "0"), done)


@pytest.mark.parametrize(
    ("examples", "changes", "words"),
    [
        (rows(9) + rows(4, split="validation"), {"max_tokens": 9}, "no train example is left: all 9 are longer than 9 tokens"),
        (rows(9) + rows(2, tokens=99, split="validation"), {}, "no validation example is left: all 2 are longer than 64 tokens"),
        (rows(9, weight=0.0) + rows(4, split="validation"), {}, "the weights of its 9 examples are all 0"),
        (rows(17, tokens=49) + rows(4, split="validation"), {}, "an example has 51 tokens, expected at most 50, the longest text"),
        (rows(17) + rows(4, split="validation"), {"warmup_steps": 6}, "warmup_steps: found 6, expected less than the 6 steps"),
        (rows(17), {"objectives": {"sft": 0, "dpo": 1}, "warmup_steps": 2}, "the 2 steps of the training (5 pairs for training)"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path: Path, examples: list, changes: dict, words: str) -> None:
    with pytest.raises(InputError) as refused:
        check(student(**{"max_tokens": 64, **changes}), source(tmp_path), *artifacts(tmp_path, examples))
    assert words in str(refused.value)


def test_settings_that_are_larger_than_the_data_are_named(tmp_path: Path) -> None:
    both = source(tmp_path), *artifacts(tmp_path, rows(17) + rows(4, split="validation"))
    assert check(student(max_tokens=64, warmup_steps=5), *both) == []
    batch, validate = check(student(max_tokens=64, batch_size=32, micro_batch_size=32, validate_steps=3), *both)
    assert "batch_size: 32 is more than the 17 training examples" in batch
    assert "validate_steps: 3 is more than the 2 steps" in validate


def test_counts_are_those_of_the_examples_that_are_loaded(tmp_path: Path) -> None:
    examples = rows(17, weight=0.5) + rows(4, split="validation")
    _, tokens = artifacts(tmp_path, examples)
    found = flat.counts(tokens, "k", max_tokens=11)
    for split in ("train", "validation"):
        assert found[split] == flat.Counts.of(flat.pack([from_rows(examples, TOKENS)], split=split, max_tokens=11))
