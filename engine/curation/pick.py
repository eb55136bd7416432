"""Which answer speaks for a prompt, and which prompts stand for their cluster."""

from collections import Counter, deque

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Curation
from engine.curation.decontaminate import Index, contaminations
from engine.similarity.minhash import exact_keys, signatures

READ = ["answer_id", "prompt_id", "text", "layer", "difficulty", "answer", "agreement", "confidence", "pool"]
ENTRY = pa.schema(  # about 750 bytes a row with 128 permutations, no text
    [
        ("answer_id", pa.string()),
        ("prompt_id", pa.string()),
        ("layer", pa.string()),
        ("difficulty", pa.string()),
        ("confidence", pa.float32()),  # -1 where the judge gave none
        ("agreement", pa.float32()),  # -1 where there is none
        ("length", pa.int64()),  # characters of the answer
        ("text_key", pa.uint64()),
        ("minima", pa.list_(pa.uint32())),
        ("dropped_by", pa.string()),  # "", pool, sample or contaminated
        ("rep_id", pa.string()),
        ("similarity", pa.float32()),
    ]
)
BEST_FIRST = [("confidence", "descending"), ("agreement", "descending"), ("length", "ascending"), ("answer_id", "ascending")]


def enter(rows: pa.Table, section: Curation, index: Index) -> pa.Table:
    """CANDIDATE in, ENTRY out: rows of other pools and of contaminated prompts are marked, the rest is signed."""
    texts = rows["text"].to_pylist()
    distinct = list(dict.fromkeys(texts))  # n samples of a prompt are signed once
    where = {text: number for number, text in enumerate(distinct)}
    minima = np.empty((len(distinct), 0), np.uint32)
    if section.minhash:
        minima = signatures(pa.array(distinct, pa.string()), section.minhash)
    found = contaminations(distinct, index, section.decontaminate)
    clean = {text: ("", "", None) for text in distinct} | {text: ("contaminated", *to) for text, to in found.items()}
    marks = [
        clean[text] if pool in section.pick.pools else ("pool", "", None)
        for pool, text in zip(rows["pool"].to_pylist(), texts, strict=True)
    ]
    return pa.table(
        {
            **{name: rows[name] for name in ("answer_id", "prompt_id", "layer", "difficulty")},
            "confidence": pc.fill_null(rows["confidence"], -1.0),
            "agreement": pc.fill_null(rows["agreement"], -1.0),
            "length": pc.utf8_length(rows["answer"]),
            "text_key": pa.array(exact_keys(rows["text"])),
            "minima": pa.array([minima[where[text]] for text in texts], pa.list_(pa.uint32())),
            "dropped_by": [mark[0] for mark in marks],
            "rep_id": [mark[1] for mark in marks],
            "similarity": pa.array([mark[2] for mark in marks], pa.float32()),
        }
    ).cast(ENTRY)


def best(entries: pa.Table) -> pa.Table:
    """ENTRY, every prompt whole, in and out: of a prompt's answers all but the best are marked as `sample` with its answer_id."""
    rows = entries.sort_by(BEST_FIRST)
    winners: dict[str, str] = {}
    dropped_by, rep_id = rows["dropped_by"].to_pylist(), rows["rep_id"].to_pylist()
    for row, (prompt_id, answer_id) in enumerate(zip(rows["prompt_id"].to_pylist(), rows["answer_id"].to_pylist(), strict=True)):
        if dropped_by[row] != "pool" and winners.setdefault(prompt_id, answer_id) != answer_id:
            dropped_by[row], rep_id[row] = "sample", winners[prompt_id]
    rows = rows.set_column(ENTRY.get_field_index("dropped_by"), "dropped_by", pa.array(dropped_by, pa.string()))
    rows = rows.set_column(ENTRY.get_field_index("rep_id"), "rep_id", pa.array(rep_id, pa.string()))
    is_beaten = pc.equal(rows["dropped_by"], "sample")
    similarity = pc.if_else(is_beaten, pa.scalar(None, pa.float32()), rows["similarity"])
    return rows.set_column(ENTRY.get_field_index("similarity"), "similarity", similarity)


def representatives(cluster: np.ndarray, closeness: np.ndarray, scenario: list[str], *, per_cluster: int | None) -> np.ndarray:
    """Return which rows stand for their cluster: at most `per_cluster` of each, in turns over its scenarios.

    The scenario that is rarest among all rows comes first; within a scenario the row nearest to the cluster's centre. Rows that are
    equally near come in the order given.
    """
    if per_cluster is None:
        return np.ones(len(cluster), bool)
    common = Counter(scenario)
    chosen = np.zeros(len(cluster), bool)
    for number in np.unique(cluster):
        members = np.flatnonzero(cluster == number)
        members = members[np.argsort(-closeness[members], kind="stable")]
        queues: dict[str, deque[int]] = {}
        for row in members.tolist():
            queues.setdefault(scenario[row], deque()).append(row)
        turns = deque(sorted(queues, key=lambda name: (common[name], name)))
        for _ in range(min(per_cluster, len(members))):
            name = turns.popleft()
            chosen[queues[name].popleft()] = True
            if queues[name]:
                turns.append(name)
    return chosen
