"""What curation knows of an answer, and which prompts stand for their cluster."""

from collections import Counter, deque

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Curation
from engine.curation import samples
from engine.curation.contamination import LEAK, by_words
from engine.curation.decontaminate import Index
from engine.dedup.minhash import exact_keys, signatures

NEAREST = ("list", "id", "part", "similarity")  # of leaks.LEAK
READ = ["answer_id", "prompt_id", "task_unit", "text", "layer", "difficulty", "answer", "agreement", "confidence", "pool"]
ENTRY = pa.schema(  # about 750 bytes a row with 128 permutations, no text
    [
        ("answer_id", pa.string()),
        ("prompt_id", pa.string()),
        ("task_unit", pa.string()),
        ("layer", pa.string()),
        ("difficulty", pa.string()),
        ("confidence", pa.float32()),  # -1 where the judge gave none
        ("agreement", pa.float32()),  # -1 where there is none
        ("length", pa.int64()),  # characters of the answer
        ("text_key", pa.uint64()),
        ("minima", pa.list_(pa.uint32())),
        ("dropped_by", pa.string()),  # "", pool, contaminated or sample; of several answers also beside, exact, minhash or semantic
        ("duplicate_of", pa.string()),
        ("similarity", pa.float32()),
        ("near_list", pa.string()),  # what of the holdout or of a list it shares most n-grams with; null if it shares none
        ("near_id", pa.string()),
        ("near_part", pa.string()),
        ("near_similarity", pa.float32()),
    ]
)


def enter(rows: pa.Table, section: Curation, index: Index) -> pa.Table:
    """CANDIDATE in, ENTRY out: rows of other pools and what resembles the holdout are marked, the rest is signed.

    With a policy for answers there are more columns, for `best`: see `samples.sign`.
    """
    texts = rows["text"].to_pylist()
    distinct = list(dict.fromkeys(texts))  # n samples of a prompt are signed once
    where = {text: number for number, text in enumerate(distinct)}
    minima = np.empty((len(distinct), 0), np.uint32)
    if section.minhash:
        minima = signatures(pa.array(distinct, pa.string()), section.minhash)
    leaks = by_words(rows, index, section.decontaminate)
    is_learnt = pc.is_in(rows["pool"], pa.array(section.pick.pools))
    is_out = pc.and_(is_learnt, leaks["is_out"])
    entries = pa.table(
        {
            **{name: rows[name] for name in ("answer_id", "prompt_id", "task_unit", "layer", "difficulty")},
            "confidence": pc.fill_null(rows["confidence"], -1.0),
            "agreement": pc.fill_null(rows["agreement"], -1.0),
            "length": pc.utf8_length(rows["answer"]),
            "text_key": pa.array(exact_keys(rows["text"])),
            "minima": pa.array([minima[where[text]] for text in texts], pa.list_(pa.uint32())),
            "dropped_by": pc.if_else(is_learnt, pc.if_else(is_out, "contaminated", ""), "pool"),
            "duplicate_of": pc.if_else(is_out, leaks["id"], ""),
            "similarity": pc.if_else(is_out, leaks["similarity"], None),
            **{f"near_{name}": leaks[name] for name in NEAREST},
        }
    ).cast(ENTRY)
    return samples.sign(entries, pc.fill_null(rows["answer"], ""), section.answers) if section.answers else entries


def leaks_of(entries: pa.Table) -> pa.Table:
    """LEAK, by words, of the ENTRY rows whose pools are learnt."""
    rows = entries.filter(pc.not_equal(entries["dropped_by"], "pool"))
    columns = {name: rows[f"near_{name}"] for name in NEAREST}
    more = {
        "answer_id": rows["answer_id"],
        "method": pa.repeat("ngram", len(rows)),
        "is_out": pc.equal(rows["dropped_by"], "contaminated"),
    }
    return pa.table({**columns, **more}).select(LEAK.names).cast(LEAK)


def turns(cluster: np.ndarray, closeness: np.ndarray, scenario: list[str]) -> np.ndarray:
    """Return for each row how many of its cluster stand for it before this one does, in turns over its scenarios.

    The scenario that is rarest among all rows comes first; within a scenario the row nearest to the cluster's centre. Rows that are
    equally near come in the order given.
    """
    common = Counter(scenario)
    turn = np.zeros(len(cluster), np.int64)
    for number in np.unique(cluster):
        members = np.flatnonzero(cluster == number)
        members = members[np.argsort(-closeness[members], kind="stable")]
        queues: dict[str, deque[int]] = {}
        for row in members.tolist():
            queues.setdefault(scenario[row], deque()).append(row)
        names = deque(sorted(queues, key=lambda name: (common[name], name)))
        for place in range(len(members)):
            name = names.popleft()
            turn[queues[name].popleft()] = place
            if queues[name]:
                names.append(name)
    return turn
