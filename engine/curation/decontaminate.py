"""Nothing of the holdout, nor of an evaluation list, is trained on: word n-grams that a text shares with one text of them.

After Brown et al., "Language models are few-shot learners" (2020), appendix C, but as a share: a common closing line is no leak.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from engine.contract.curation import Decontaminate, Part
from engine.dedup.words import ngrams, words

HOLDOUT = "holdout"
LISTED = pa.schema(  # what must stay unknown
    [
        ("list", pa.string()),  # HOLDOUT, or the path of an evaluation list as the contract writes it
        ("id", pa.string()),  # prompt_id in the holdout; for a list the hash of the path and the messages
        ("kind", pa.string()),  # prompt | reference
        ("text", pa.string()),
    ]
)
KINDS: dict[Part, tuple[str, ...]] = {
    "prompt": ("prompt",),
    "answer": ("prompt", "reference"),
    "rationale": ("prompt", "reference"),
}
"""Part of an example -> what it is compared with. That two prompts have the same right answer is no leak, nor that one is short."""


class Hit(NamedTuple):
    """What a text resembles most."""

    list: str
    id: str
    similarity: float  # share of the text's own n-grams, or cosine


class Index(NamedTuple):
    """The n-grams of what must stay unknown: some 100 bytes each, in every process that looks something up."""

    grams: dict[int, tuple[int, ...]]  # hash -> numbers of the texts that contain it
    texts: list[tuple[str, str, str]]  # (list, id, kind)


def listed(rows: pa.Table, name: str | None = None) -> pa.Table:
    """LISTED from rows with `prompt_id`, `text`, `reference`, and their `path` unless all are of the list `name`."""
    where = pa.array([name] * len(rows), pa.string()) if name else rows["path"]
    pieces = [
        pa.table({"list": where, "id": rows["prompt_id"], "kind": pa.array([kind] * len(rows), pa.string()), "text": rows[column]})
        for kind, column in (("prompt", "text"), ("reference", "reference"))
        if column in rows.column_names
    ]
    found = pa.concat_tables(pieces).cast(LISTED)
    return found.filter(pc.fill_null(pc.not_equal(found["text"], ""), False))


def build_index(known: pa.Table, section: Decontaminate) -> Index:
    """Return the index of LISTED rows."""
    found: dict[int, tuple[int, ...]] = {}
    rows = known.sort_by([("list", "ascending"), ("id", "ascending"), ("kind", "ascending")]).to_pylist()
    for number, row in enumerate(rows):
        if row["kind"] == "prompt" or _is_long(row["text"], section):
            for gram in _grams(row["text"], section.ngram):
                found[gram] = (*found.get(gram, ()), number)
    return Index(found, [(row["list"], row["id"], row["kind"]) for row in rows])


def overlaps(texts: Sequence[str], index: Index, section: Decontaminate, *, part: Part = "prompt") -> dict[str, Hit]:
    """Return for each of `texts`, each a `part` of an example, that shares an n-gram the listed text it shares most with."""
    out = {}
    for text in texts:
        if part != "prompt" and not _is_long(text, section):
            continue
        grams = _grams(text, section.ngram)
        shared = Counter(number for gram in grams for number in index.grams.get(gram, ()) if index.texts[number][2] in KINDS[part])
        if shared:
            number = min(shared, key=lambda number: (-shared[number], number))
            out[text] = Hit(*index.texts[number][:2], shared[number] / len(grams))
    return out


def _is_long(text: str, section: Decontaminate) -> bool:
    return len(words(text)) >= section.ngram


def _grams(text: str, size: int) -> set[int]:
    return {xxhash.xxh3_64_intdigest(gram.encode("utf-8", "surrogatepass")) for gram in ngrams(text, size)}
