"""Several answers to one prompt: the best is learnt, and others only if the contract says so and they say something else.

What is said here of answers is apart from what makes two prompts copies: n samples of a prompt are no copies of each other. Of the
answers to a prompt that are learnt the best stands for the prompt; the others are `beside` it, and share its fate.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Answers
from engine.dedup.minhash import estimate, exact_keys, signatures
from engine.dedup.representatives import Order
from engine.dedup.vectors import matrix

BESIDE = "beside"  # a mark of this room, no drop reason
BEST_FIRST: Order = [("confidence", "descending"), ("agreement", "descending"), ("length", "ascending"), ("answer_id", "ascending")]


class Known(NamedTuple):
    """What tells whether two answers say the same, by row."""

    keys: list[int]
    minima: np.ndarray | None
    vectors: np.ndarray | None


class Fate(NamedTuple):
    """What becomes of an answer beside others to the same prompt."""

    dropped_by: str
    to: int  # row of the answer that it loses to, or stands beside
    similarity: float | None = None


def sign(entries: pa.Table, answers: pa.ChunkedArray, policy: Answers) -> pa.Table:
    """Append to ENTRY what `best` compares: `answer_key`, `answer_minima`, and for an embedder `answer`."""
    entries = entries.append_column("answer_key", pa.array(exact_keys(answers)))
    if policy.minhash:
        minima = signatures(answers, policy.minhash)
        entries = entries.append_column("answer_minima", pa.array(list(minima), pa.list_(pa.uint32())))
    return entries.append_column("answer", answers) if policy.similarity is not None else entries


def best(entries: pa.Table, policy: Answers | None = None) -> pa.Table:
    """ENTRY, every prompt whole, in and out: of a prompt's answers those that are not learnt are marked with what they lost to.

    Without `policy` all but the best are `sample`. An answer that is contaminated by itself stands for no prompt.
    """
    rows = entries.sort_by(BEST_FIRST)
    columns: dict[str, list[Any]] = {name: rows[name].to_pylist() for name in ("dropped_by", "duplicate_of", "similarity")}
    ids, prompts, parts = (rows[name].to_pylist() for name in ("answer_id", "prompt_id", "near_part"))
    known, stays = _known(rows, policy), dict[str, list[int]]()
    for row, mark in enumerate(columns["dropped_by"].copy()):
        if mark == "pool" or (mark == "contaminated" and parts[row] != "prompt"):
            continue
        kept = stays.setdefault(prompts[row], [])
        if kept:
            fate = _compare(row, kept, known, policy) if policy else Fate("sample", kept[0])
            columns["dropped_by"][row], columns["duplicate_of"][row], columns["similarity"][row] = (
                fate.dropped_by, ids[fate.to], fate.similarity,
            )  # fmt: skip
        if not kept or columns["dropped_by"][row] == BESIDE:
            kept.append(row)
    for name, values in columns.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values, rows.schema.field(name).type))
    return rows


def follow(decisions: pa.Table) -> pa.Table:
    """Return decisions in which each answer beside another has the fate of that one."""
    is_beside = pc.equal(decisions["dropped_by"], BESIDE)
    followers = decisions.filter(is_beside)
    if not len(followers):
        return decisions
    leaders = decisions.take(pc.index_in(followers["duplicate_of"], decisions["answer_id"].combine_chunks()))
    missing = {"dropped_by": "", "duplicate_of": "", "cluster": -1}  # of one that is kept without more being known of it
    columns = {name: leaders[name] for name in decisions.column_names[1:]}
    columns |= {name: pc.fill_null(columns[name], value) for name, value in missing.items()}
    return pa.concat_tables([decisions.filter(pc.invert(is_beside)), pa.table({"answer_id": followers["answer_id"], **columns})])


def _known(rows: pa.Table, policy: Answers | None) -> Known:
    if policy is None or not len(rows):
        return Known([], None, None)
    vectors = matrix(rows["embedding"]) if policy.similarity is not None else None
    return Known(rows["answer_key"].to_pylist(), matrix(rows["answer_minima"]) if policy.minhash else None, vectors)


def _compare(row: int, kept: list[int], known: Known, policy: Answers) -> Fate:
    """What an answer is beside those that are `kept`, best first."""
    if policy.exact:
        for other in kept:
            if known.keys[row] == known.keys[other]:
                return Fate("exact", other, 1.0)
    if known.minima is not None and policy.minhash:
        shared = estimate(known.minima[kept], known.minima[row])
        if shared.max() >= policy.minhash.threshold:
            return Fate("minhash", kept[int(shared.argmax())], float(shared.max()))
    if known.vectors is not None and policy.similarity is not None:
        cosine = known.vectors[kept] @ known.vectors[row]
        if cosine.max() >= policy.similarity:
            return Fate("semantic", kept[int(cosine.argmax())], float(cosine.max()))
    return Fate(BESIDE if len(kept) < policy.most else "sample", kept[0])
