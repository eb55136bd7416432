"""The samples of a round as one file that its training reads: token ids, and what the objective knows of them."""

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from engine.capture.compact import probabilities, unpack
from engine.inference.chat_template import tokenize_chats
from engine.inference.turn_end import turn_end
from engine.records.capture import CaptureMetrics
from engine.rows import Row
from engine.storage.folder import Folder
from engine.students.data.aligned import laid
from engine.students.data.captured import Captured
from engine.students.data.pack import Packed, Policy
from engine.students.objectives.grpo import advantages

FILE = "rollouts.npz"
SAME = 1e-6
"""Rewards that differ by less are equal."""


class Scored(NamedTuple):
    """The teacher's distributions at the tokens of samples."""

    rows: pa.Table  # CAPTURE; `example_id` is the sample's id
    words: pa.Table  # VOCABULARY
    metrics: CaptureMetrics


class Learned(NamedTuple):
    """Samples to learn from."""

    packed: Packed
    no_signal: float | None = None  # share of groups
    aligned: float | None = None  # share of tokens


def rewarded(rows: Sequence[Row], tokenizer: Any, *, samples: int, scale: bool, by_answer: bool) -> Learned:
    """Return the SAMPLE `rows`, `samples` of one prompt after another, with their advantages; groups without signal are left out.

    `by_answer`: each answer counts the same in the mean of the loss, else each token.
    """
    rewards = np.asarray([row["reward"] for row in rows], np.float64).reshape(-1, samples)
    has_signal = np.ptp(rewards, axis=1) > SAME
    values = advantages(rewards, scale=scale).reshape(-1)
    use = np.flatnonzero(np.repeat(has_signal, samples) & np.asarray([bool(row["ids"]) for row in rows], bool))
    packed = _packed([rows[at] for at in use], tokenizer)
    weights = 1 / packed.learned if by_answer else packed.weights
    nothing = np.zeros(int(packed.learned.sum()), np.float32)  # the training computes them before its first step
    policy = Policy(values[use], nothing, nothing)
    share = float(1 - has_signal.mean()) if len(rewards) else 1.0
    return Learned(replace(packed, weights=weights.astype(np.float32), policy=policy), no_signal=share)


def scored(rows: Sequence[Row], teacher: Scored, tokenizer: Any) -> Learned:
    """Return the SAMPLE `rows` with the teacher's distributions; samples without tokens are left out."""
    rows = [row for row in rows if row["ids"]]
    targets = {row["sample_id"]: row["ids"] for row in rows}
    captured = laid(teacher.rows, teacher.words, teacher.metrics, targets, tokenizer, end=turn_end(tokenizer)[-1])
    share = float(captured.gate.mean()) if len(captured.gate) else 0.0
    return Learned(replace(_packed(rows, tokenizer), teacher=captured), aligned=share)


def divergences(rows: Sequence[Row], teacher: Scored) -> list[float]:
    """Return minus the log-probability ratio of student and teacher of each SAMPLE row that was scored, nats per token.

    Its mean over samples estimates minus the reverse KL divergence. The teacher's end of the turn does not count for a sample
    without one.
    """
    found = {row["example_id"]: row for row in teacher.rows.to_pylist() if row["finish_reason"] == "stop"}
    values = []
    for row in rows:
        if row["sample_id"] in found and row["ids"] and row["logprob"] is not None:
            stored = unpack(found[row["sample_id"]])
            own = np.log(np.maximum(probabilities(stored)[0][stored.starts[:-1] + stored.ranks], 1e-9))
            theirs = own if row["finish_reason"] == "stop" else own[:-1]
            values.append(float((theirs.sum() - row["logprob"]) / len(row["ids"])))
    return values


def save(packed: Packed, folder: Folder) -> None:
    """Write `packed` into `folder`."""
    arrays = {name: getattr(packed, name) for name in ("ids", "starts", "targets", "weights", "stages")}
    if packed.policy is not None:
        arrays["advantages"] = packed.policy.advantages
    if packed.teacher is not None:
        arrays |= {f"teacher_{name}": value for name, value in vars(packed.teacher).items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    folder.write(FILE, buffer.getvalue(), durable=True)


def load(folder: Folder) -> Packed:
    """Return what `save` wrote; log-probabilities under old weights and reference are 0."""
    with np.load(io.BytesIO(folder.read(FILE))) as file:
        arrays: Any = dict(file)
    teacher = {name.removeprefix("teacher_"): arrays.pop(name) for name in list(arrays) if name.startswith("teacher_")}
    values = arrays.pop("advantages", None)
    packed = Packed(too_long=0, **arrays, teacher=Captured(**teacher) if teacher else None)
    if values is None:
        return packed
    nothing = np.zeros(int(packed.learned.sum()), np.float32)
    return replace(packed, policy=Policy(values, nothing, nothing))


def _packed(rows: Sequence[Row], tokenizer: Any) -> Packed:
    prompts = [prompt for prompt in tokenize_chats(tokenizer, [row["messages"] for row in rows]) if isinstance(prompt, list)]
    ids = [np.asarray([*prompt, *row["ids"]], np.int32) for prompt, row in zip(prompts, rows, strict=True)]  # all were answered
    return Packed(
        ids=np.concatenate([np.empty(0, np.int32), *ids]),
        starts=np.cumsum([0, *(len(each) for each in ids)], dtype=np.int64),
        targets=np.asarray([len(prompt) for prompt in prompts], np.int32),
        weights=np.ones(len(rows), np.float32),
        stages=np.zeros(len(rows), np.int32),
        too_long=0,
    )
