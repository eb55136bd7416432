"""Several answers to one prompt: the best is kept, and others only if the contract allows it and they are no duplicates of it.

This is separate from duplicates of prompts: the samples of one prompt are not duplicates of each other. The best answer represents
the prompt among other prompts; a SIBLING, a further answer that is kept, gets the disposition of the best one (`follow`).
"""

from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.contract.curation import Answers
from engine.curation.dispositions import SIBLING
from engine.dedup.minhash import estimate, minhash, text_keys
from engine.dedup.representatives import Order
from engine.dedup.vectors import matrix
from engine.errors import StorageError

BEST_FIRST: Order = [("confidence", "descending"), ("agreement", "descending"), ("length", "ascending"), ("answer_id", "ascending")]


class Signatures(NamedTuple):
    """The signatures by which two answers are compared, by row; None if the policy does not compare by them."""

    keys: list[int]
    minhash: np.ndarray | None
    vectors: np.ndarray | None


class Outcome(NamedTuple):
    """The outcome of comparing an answer with the kept answers to the same prompt."""

    dropped_by: str
    to: int  # row of the answer that it loses to, or follows
    similarity: float | None = None


def with_signatures(entries: pa.Table, answers: pa.ChunkedArray, policy: Answers) -> pa.Table:
    """Return ENTRY with the columns that `best` compares: `answer_key`, `answer_minhash`, and `answer` to be embedded."""
    form = policy.minhash.normalization if policy.minhash else "nfc"
    entries = entries.append_column("answer_key", pa.array(text_keys(answers, form)))
    if policy.minhash:
        signatures = minhash(answers, policy.minhash)
        entries = entries.append_column("answer_minhash", pa.array(list(signatures), pa.list_(pa.uint32())))
    return entries.append_column("answer", answers) if policy.similarity is not None else entries


def best(entries: pa.Table, policy: Answers | None = None) -> pa.Table:
    """Return ENTRY rows, given with every prompt whole, in which the answers that are not kept have the answer that they lose to.

    Without `policy` all but the best are `sample`. An answer that is contaminated by its own text never represents its prompt.

    Raises:
        StorageError: an answer_id occurs twice: what is decided on rows is known by it.
    """
    rows = entries.sort_by(BEST_FIRST)
    columns: dict[str, list] = {name: rows[name].to_pylist() for name in ("dropped_by", "duplicate_of", "similarity")}
    ids, prompts, parts = (rows[name].to_pylist() for name in ("answer_id", "prompt_id", "near_part"))
    if len({*ids}) < len(ids):
        name, count = Counter(ids).most_common(1)[0]
        raise StorageError(
            f"table candidates: found the answer_id {name!r} in {count} rows, expected it once; `rayleigh check-data` checks the "
            "whole table. Delete the artifact `candidates` of the run, and run it again."
        )
    signatures, stays = _signatures(rows, policy), dict[str, list[int]]()
    for row, reason in enumerate(columns["dropped_by"].copy()):
        if reason == "pool" or (reason == "contaminated" and parts[row] != "prompt"):
            continue
        kept = stays.setdefault(prompts[row], [])
        if kept:
            outcome = _compare(row, kept, signatures, policy) if policy else Outcome("sample", kept[0])
            for name, value in zip(columns, (outcome.dropped_by, ids[outcome.to], outcome.similarity), strict=True):
                columns[name][row] = value
        if not kept or columns["dropped_by"][row] == SIBLING:
            kept.append(row)
    for name, values in columns.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values, rows.schema.field(name).type))
    return rows


def _signatures(rows: pa.Table, policy: Answers | None) -> Signatures:
    if policy is None or not len(rows):
        return Signatures([], None, None)
    vectors = matrix(rows["embedding"]) if policy.similarity is not None else None
    return Signatures(rows["answer_key"].to_pylist(), matrix(rows["answer_minhash"]) if policy.minhash else None, vectors)


def _compare(row: int, kept: list[int], signatures: Signatures, policy: Answers) -> Outcome:
    """Return the outcome of an answer against the `kept` ones, best first."""
    same = [other for other in kept if policy.exact and signatures.keys[row] == signatures.keys[other]]
    if same:
        return Outcome("exact", same[0], 1.0)
    if signatures.minhash is not None and policy.minhash:
        jaccard = estimate(signatures.minhash[kept], signatures.minhash[row])
        if jaccard.max() >= policy.minhash.threshold:
            return Outcome("minhash", kept[int(jaccard.argmax())], float(jaccard.max()))
    if signatures.vectors is not None and policy.similarity is not None:
        cosine = signatures.vectors[kept] @ signatures.vectors[row]
        if cosine.max() >= policy.similarity:
            return Outcome("semantic", kept[int(cosine.argmax())], float(cosine.max()))
    return Outcome(SIBLING if len(kept) < policy.max_per_prompt else "sample", kept[0])
