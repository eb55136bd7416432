"""An index of the word n-grams of protected texts: those of the holdout and of evaluation lists, which must not be trained on.

After Brown et al., "Language models are few-shot learners" (2020), appendix C, but by the share of n-grams, so that a common
closing line alone is no contamination.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from engine.contract.curation import Decontaminate, Part
from engine.dedup.words import ngrams, words

HOLDOUT = "holdout"
PROTECTED = pa.schema(
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
"""Part of an example -> kinds of protected text it is compared with. Two prompts may have the same reference."""


class Match(NamedTuple):
    """The protected text that a text resembles most."""

    list: str
    id: str
    similarity: float  # share of the text's own n-grams, or cosine


class NgramIndex(NamedTuple):
    """The n-grams of the protected texts: about 100 bytes each, in every process that uses it."""

    grams: dict[int, tuple[int, ...]]  # hash -> numbers of the texts that contain it
    texts: list[tuple[str, str, str]]  # (list, id, kind)


def protected(rows: pa.Table, name: str | None = None) -> pa.Table:
    """Return PROTECTED of rows with `prompt_id`, `text`, `reference`, and `path` unless all are of the list `name`."""
    lists = pa.array([name] * len(rows), pa.string()) if name else rows["path"]
    pieces = [
        pa.table({"list": lists, "id": rows["prompt_id"], "kind": pa.array([kind] * len(rows), pa.string()), "text": rows[column]})
        for kind, column in (("prompt", "text"), ("reference", "reference"))
        if column in rows.column_names
    ]
    table = pa.concat_tables(pieces).cast(PROTECTED)
    return table.filter(pc.fill_null(pc.not_equal(table["text"], ""), False))


def build_index(texts: pa.Table, section: Decontaminate) -> NgramIndex:
    """Return the index of PROTECTED rows."""
    numbers: dict[int, tuple[int, ...]] = {}
    rows = texts.sort_by([("list", "ascending"), ("id", "ascending"), ("kind", "ascending")]).to_pylist()
    for number, row in enumerate(rows):
        if row["kind"] == "prompt" or _is_long(row["text"], section):
            for gram in _grams(row["text"], section.ngram):
                numbers[gram] = (*numbers.get(gram, ()), number)
    return NgramIndex(numbers, [(row["list"], row["id"], row["kind"]) for row in rows])


def overlaps(texts: Iterable[str], index: NgramIndex, section: Decontaminate, *, part: Part = "prompt") -> dict[str, Match]:
    """Return text -> the protected text that shares most n-grams with it, for those of `texts`, each a `part` of an example, that
    share any."""
    matches = {}
    for text in texts:
        if part != "prompt" and not _is_long(text, section):
            continue
        grams = _grams(text, section.ngram)
        shared = Counter(number for gram in grams for number in index.grams.get(gram, ()) if index.texts[number][2] in KINDS[part])
        if shared:
            number = min(shared, key=lambda number: (-shared[number], number))
            matches[text] = Match(*index.texts[number][:2], shared[number] / len(grams))
    return matches


def _is_long(text: str, section: Decontaminate) -> bool:
    return len(words(text)) >= section.ngram


def _grams(text: str, size: int) -> set[int]:
    return {xxhash.xxh3_64_intdigest(" ".join(gram).encode("utf-8", "surrogatepass")) for gram in ngrams(text, size)}
