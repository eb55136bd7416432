"""Which prompts a student answers in a round: a share of the training prompts, and the same held-out ones every time."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.on_policy import OnPolicy
from engine.errors import InputError
from engine.rows import EXAMPLE
from engine.storage.artifact import Artifact
from engine.storage.shards import iterate
from engine.students.on_policy.schemas import HELD_OUT, QUESTION, TRAIN

EXAMPLE_COLUMNS = ["example_id", "prompt_id", "task_unit", "split", "kind"]
OF_PROMPT = {"messages": "asked", "text": "text", "reference": "reference", "scenario": "scenario", "language": "language"}
"""Column of PICKED -> of QUESTION."""


@dataclass(frozen=True)
class Questions:
    """QUESTION rows of all rounds, by prompt_id, and the order in which training prompts are drawn."""

    rows: pa.Table
    drawn: np.ndarray  # int64 [rounds, prompts], rows of `rows`
    held_out: np.ndarray  # int64

    def of_round(self, number: int, section: OnPolicy, *, is_last: bool) -> pa.Table:
        """Return the questions of round `number`, from 1: held-out prompts, then training prompts, unless it `is_last`."""
        drawn = np.empty(0, np.int64) if is_last else self.drawn[number - 1]
        return self.rows.take(pa.array(np.concatenate([self.held_out, drawn])))


def choose(dataset: Artifact, section: OnPolicy, *, seed: int, task_units: Collection[str], path: str) -> Questions:
    """Return the questions of all rounds from the examples of `dataset` that are answers to prompts of `task_units`.

    Only the prompts that are drawn are held in memory. `path` is the contract's key, for messages.

    Raises:
        InputError: there is no such example, for training or for validation.
    """
    examples = dataset.read("examples", EXAMPLE, EXAMPLE_COLUMNS)
    examples = examples.filter((pc.field("kind") == "answer") & pc.is_in(pc.field("task_unit"), pa.array(sorted(task_units))))
    rng = np.random.default_rng((seed, 31))
    ids = {split: _prompts(examples, split) for split in ("train", "validation")}
    ids["train"] = sorted({*ids["train"]} - {*ids["validation"]})
    for split, found in ids.items():
        if not found:
            raise InputError(
                f"{dataset.folder}: has no {split} example that answers a prompt of {', '.join(sorted(task_units))}, and {path} "
                "samples such prompts. Give more prompts, or raise curation.pick.validation; then delete the dataset and run again."
            )
    drawn = draw(len(ids["train"]), section.rounds, section.prompts_per_round, rng)
    held = np.sort(rng.permutation(len(ids["validation"]))[: section.held_out])
    chosen = {ids["train"][at]: TRAIN for at in np.unique(drawn)} | {ids["validation"][at]: HELD_OUT for at in held}
    rows = _questions(dataset, examples, chosen)
    place = {name: at for at, name in enumerate(rows["prompt_id"].to_pylist())}
    at = np.asarray([place[ids["train"][row]] for row in drawn.flat], np.int64).reshape(drawn.shape)
    return Questions(rows, at, np.asarray([place[ids["validation"][row]] for row in held], np.int64))


def draw(count: int, rounds: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return which of `count` prompts each round has, int64 [rounds, size or count]; all are drawn before one is drawn again."""
    found, left = np.empty((rounds, min(size, count)), np.int64), np.empty(0, np.int64)
    for row in found:
        row[: len(left[: len(row)])], missing = left[: len(row)], len(row) - len(left)
        left = left[len(row) :]
        if missing > 0:
            anew = rng.permutation(count)
            fresh = anew[~np.isin(anew, row[:-missing])]  # none is there twice in a round
            row[-missing:], left = fresh[:missing], fresh[missing:]
    return np.sort(found, axis=1)


def _prompts(examples: pa.Table, split: str) -> list[str]:
    return sorted(set(examples.filter(pc.field("split") == split)["prompt_id"].to_pylist()))


def _questions(dataset: Artifact, examples: pa.Table, chosen: dict[str, str]) -> pa.Table:
    """Return QUESTION of the prompts `chosen`: prompt_id -> what for."""
    wanted = pa.array(sorted(chosen))
    first: dict[str, str] = {}
    for row in examples.filter(pc.is_in(pc.field("prompt_id"), wanted)).sort_by("example_id").to_pylist():
        first.setdefault(row["prompt_id"], row["example_id"])
    inputs = {
        row["example_id"]: row["messages"]
        for piece in iterate(dataset.folder / "examples", dataset.table("examples"), ["example_id", "messages"])
        for row in piece.filter(pc.is_in(piece["example_id"], pa.array(sorted(first.values())))).to_pylist()
    }
    units = dict(zip(examples["prompt_id"].to_pylist(), examples["task_unit"].to_pylist(), strict=True))
    prompts: dict[str, dict[str, object]] = {}
    table, columns = dataset.table("picked"), ["prompt_id", *OF_PROMPT]
    for piece in iterate(dataset.folder / "picked", table, columns):
        for row in piece.filter(pc.is_in(piece["prompt_id"], wanted)).to_pylist():
            prompts[row["prompt_id"]] = {new: row[old] for old, new in OF_PROMPT.items()}
    rows = [
        {"prompt_id": name, "split": chosen[name], "task_unit": units[name], "messages": inputs[first[name]], **prompts[name]}
        for name in sorted(chosen)
    ]
    return pa.Table.from_pylist(rows, schema=QUESTION)
