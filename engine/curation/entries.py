"""The small row that represents a candidate in curation: keys, signatures and order, without its texts."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Curation
from engine.curation import samples
from engine.curation.contamination import CONTAMINATION, by_ngrams
from engine.curation.ngram_index import NgramIndex
from engine.dedup.minhash import minhash, text_keys

NEAREST = ("list", "id", "part", "similarity")  # of CONTAMINATION
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
        ("minhash", pa.list_(pa.uint32())),
        ("dropped_by", pa.string()),  # "", pool, contaminated, sample; of several answers also sibling, exact, minhash, semantic
        ("duplicate_of", pa.string()),
        ("similarity", pa.float32()),
        ("near_list", pa.string()),  # the protected text that it resembles most by n-grams; null if none shares any
        ("near_id", pa.string()),
        ("near_part", pa.string()),
        ("near_similarity", pa.float32()),
    ]
)
SIGNED = ("confidence", "agreement", "length", "text_key", "minhash", "duplicate_of", "similarity")
SETTLED = pa.schema([field for field in ENTRY if field.name not in SIGNED])  # what is read once copies are found, about 250 bytes


def entries(rows: pa.Table, index: NgramIndex, section: Curation) -> pa.Table:
    """Return ENTRY of CANDIDATE rows. Rows of other pools and contaminated rows have their `dropped_by`.

    With `section.answers` there are more columns, for `samples.best`: see `samples.with_signatures`.
    """
    texts = rows["text"].to_pylist()
    distinct = list(dict.fromkeys(texts))  # the signature of a prompt is computed once for all its samples
    form = section.minhash.normalization if section.minhash else "nfc"
    number_of = {text: number for number, text in enumerate(distinct)}
    signatures = np.empty((len(distinct), 0), np.uint32)
    if section.minhash:
        signatures = minhash(pa.array(distinct, pa.string()), section.minhash, index.minhash_ignored)
    resemblance = by_ngrams(rows, index, section.decontaminate)
    is_accepted = pc.is_in(rows["pool"], pa.array(section.pick.pools))
    is_contaminated = pc.and_(is_accepted, resemblance["is_contaminated"])
    table = pa.table(
        {
            **{name: rows[name] for name in ("answer_id", "prompt_id", "task_unit", "layer", "difficulty")},
            "confidence": pc.fill_null(rows["confidence"], -1.0),
            "agreement": pc.fill_null(rows["agreement"], -1.0),
            "length": pc.utf8_length(rows["answer"]),
            "text_key": pa.array(text_keys(rows["text"], form)),
            "minhash": pa.array([signatures[number_of[text]] for text in texts], pa.list_(pa.uint32())),
            "dropped_by": pc.if_else(is_accepted, pc.if_else(is_contaminated, "contaminated", ""), "pool"),
            "duplicate_of": pc.if_else(is_contaminated, resemblance["id"], ""),
            "similarity": pc.if_else(is_contaminated, resemblance["similarity"], None),
            **{f"near_{name}": resemblance[name] for name in NEAREST},
        }
    ).cast(ENTRY)
    return samples.with_signatures(table, pc.fill_null(rows["answer"], ""), section.answers) if section.answers else table


def contamination_of(entries: pa.Table) -> pa.Table:
    """Return CONTAMINATION, by n-grams, of the ENTRY rows whose pools may become examples."""
    rows = entries.filter(pc.not_equal(entries["dropped_by"], "pool"))
    columns = {name: rows[f"near_{name}"] for name in NEAREST}
    columns |= {"answer_id": rows["answer_id"], "method": pa.repeat("ngram", len(rows))}
    columns["is_contaminated"] = pc.equal(rows["dropped_by"], "contaminated")
    return pa.table(columns).select(CONTAMINATION.names).cast(CONTAMINATION)
