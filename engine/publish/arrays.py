"""Examples as arrays: token ids, what of them is learned, and log-probabilities, flat, one row after the other.

Rows have different lengths, so each array of values has an array of where the rows begin, as in Arrow's lists and SciPy's CSR
matrices: row r of `ids` is `ids[starts[r]:starts[r + 1]]`. All dtypes are NumPy's, little-endian, as Safetensors stores them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.rows import SPAN_KINDS, Row

TOKEN_DOCS = {
    "ids": "int32 [N], token ids of all rows: prompt in the tokenizer's template, target, end of the turn",
    "starts": "int64 [R + 1], row r has ids[starts[r]:starts[r + 1]]",
    "target_start": "int32 [R], index into the row's ids of the first token of the target; only the target is learned",
    "weight": "float32 [R], factor of the row's loss",
    "span_starts": "int64 [R + 1], row r has the spans span_starts[r] to span_starts[r + 1]",
    "span_kind": f"uint8 [S], part of the target: {', '.join(f'{at} = {kind}' for at, kind in enumerate(SPAN_KINDS))}",
    "span_begin": "int32 [S], index into the row's ids of the first token of the span",
    "span_end": "int32 [S], index after its last token",
}
ANSWER_DOCS = {
    "answer_starts": "int64 [R + 1], row r has the entries answer_starts[r] to answer_starts[r + 1]; none where its teacher gave "
    "none, or the target is not the teacher's whole answer",
    "answer_logprob": "float32 [A], in nats, of a token of the teacher as it was sampled; the last of a row is the end of the turn",
    "answer_end": "int32 [A], index into the target's text of the character after that token; -1 = unknown",
}
TEACHER_DOCS = {
    "teacher_starts": "int64 [M + 1], target token m, counted over all rows, has the entries teacher_starts[m] to "
    "teacher_starts[m + 1]; M is the sum of len(ids of a row) - target_start",
    "teacher_ids": "int32 [E], ids in this tokenizer, most probable first",
    "teacher_logprob": "float32 [E], in nats",
    "teacher_tail": "float32 [M], in nats, log-probability of all other tokens together",
    "teacher_gate": "bool [M], whether students learn from this token's distribution; false also where there is none",
}
DOCS = {**TOKEN_DOCS, **ANSWER_DOCS, **TEACHER_DOCS}
"""Name of an array -> its dtype, shape and meaning; R rows, N tokens, S spans, A answered tokens, M target tokens, E entries."""


class Distributions(NamedTuple):
    """The teachers' distributions at the M target tokens of one row: token m has `ids[starts[m]:starts[m + 1]]`."""

    starts: np.ndarray  # int64 [M + 1]
    ids: np.ndarray  # int32 [E]
    logprobs: np.ndarray  # float32 [E], nats
    tail: np.ndarray  # float32 [M], nats
    gate: np.ndarray  # bool [M]


class Shard:
    """The arrays of some rows with the token ids of one tokenizer, while they are collected."""

    def __init__(self) -> None:
        self.parts: dict[str, list[np.ndarray]] = {}
        self.rows = self.size = 0

    def add(self, tokens: Row, answered: list[Row] | None, taught: Distributions | None) -> None:
        """Add one row: TOKENS, TOKEN_LOGPROBS of its answer, distributions at its target; None = there are none.

        Raises:
            ValueError: `taught` is not of the target's tokens.
        """
        spans, answered = tokens["spans"], answered or []
        self._put("ids", tokens["ids"], np.int32)
        self._put("starts", [len(tokens["ids"])], np.int64)
        self._put("target_start", [tokens["target_start"]], np.int32)
        self._put("weight", [tokens["weight"]], np.float32)
        self._put("span_starts", [len(spans)], np.int64)
        self._put("span_kind", [SPAN_KINDS.index(span["kind"]) for span in spans], np.uint8)
        self._put("span_begin", [span["start"] for span in spans], np.int32)
        self._put("span_end", [span["end"] for span in spans], np.int32)
        self._put("answer_starts", [len(answered)], np.int64)
        self._put("answer_logprob", [_or_nan(each["logprob"]) for each in answered], np.float32)
        self._put("answer_end", [each["end"] for each in answered], np.int32)
        if taught is not None:
            self._teach(taught, len(tokens["ids"]) - tokens["target_start"])
        self.rows += 1

    def _teach(self, taught: Distributions, targets: int) -> None:
        if len(taught.tail) != targets:
            raise ValueError(f"found the distributions of {len(taught.tail)} tokens, expected those of {targets}")
        self._put("teacher_starts", np.diff(taught.starts), np.int64)
        for name, values, kind in (
            ("teacher_ids", taught.ids, np.int32), ("teacher_logprob", taught.logprobs, np.float32),
            ("teacher_tail", taught.tail, np.float32), ("teacher_gate", taught.gate, np.bool_),
        ):  # fmt: skip
            self._put(name, values, kind)

    def _put(self, name: str, values: Any, kind: Any) -> None:
        self.parts.setdefault(name, []).append(np.asarray(values, kind))
        self.size += len(values)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return name -> array, as DOCS says; those that no row has are left out."""
        whole = {name: np.concatenate(parts) for name, parts in self.parts.items()}
        for name in [name for name in whole if name.endswith("starts")]:
            whole[name] = np.concatenate([[0], np.cumsum(whole[name])]).astype(np.int64)
        absent = ANSWER_DOCS if not whole["answer_starts"][-1] else ()
        return {name: whole[name] for name in DOCS if name in whole and name not in absent}


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write `arrays` as one Safetensors file, with what each is as its metadata."""
    from safetensors.numpy import save_file  # not at the top: other forms do not need it

    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, {name: DOCS[name] for name in arrays})


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
