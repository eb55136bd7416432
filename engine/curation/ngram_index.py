"""An index of the word n-grams of protected texts: those of the holdout and of evaluation lists, which must not be trained on.

After Brown et al., "Language models are few-shot learners" (2020), appendix C, but by the share of n-grams, so that a common
closing line alone is no contamination.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from engine.contract.curation import Curation, Decontaminate, Part
from engine.contract.prompts import Copies
from engine.dedup.minhash import gram_hashes, text_keys
from engine.dedup.shared import SAMPLED, merge, shared
from engine.dedup.words import ngrams, words
from engine.readers.paths import source_of

HOLDOUT = "holdout"
SPLITS = {"train": "prompts", "holdout": "holdout"}  # split -> table
RARE = 64  # most protected texts that share an n-gram that is no boilerplate
SETS = 64  # of boilerplate whose counts are kept at once
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
    similarity: float  # share of n-grams, of the text or of the protected one, whichever is larger; or cosine


class NgramIndex(NamedTuple):
    """The n-grams of the protected texts: about 100 bytes each, in every process that uses it."""

    grams: dict[int, list[int]]  # hash -> numbers of the texts that contain it, in order
    texts: list[tuple[str, str, str]]  # (list, id, kind)
    sizes: Sequence[int] = ()  # n-grams of each text that count
    ignored: frozenset[int] = frozenset()  # hashes of n-grams that most prompts share, which do not count
    minhash_ignored: np.ndarray | None = None  # the same for `curation.minhash`, as it hashes n-grams


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


def sample_prompts(rows: pa.Table, split: str, paths: Sequence[str]) -> pa.Table:
    """Return shared.SAMPLED of PROMPT rows of a `split`, in groups as in `prompts`; `paths` are those of the contract's sources."""
    names = pc.unique(rows["source"])
    sources = pa.array([name and source_of(name, paths) for name in names.to_pylist()], pa.string())
    groups_of = {"source": sources.take(pc.index_in(rows["source"], names).combine_chunks()), "task_unit": rows["task_unit"]}
    columns = {"key": pa.array(text_keys(rows["text"])), "text": rows["text"]}
    groups = [pc.binary_join_element_wise(split, name, pc.fill_null(values, ""), " ") for name, values in groups_of.items()]
    return merge([pa.table({"group": group, **columns}).cast(SAMPLED) for group in groups])


def with_shared(index: NgramIndex, sampled: pa.Table, section: Curation) -> NgramIndex:
    """Return `index` with the n-grams that most prompts share, of which `sampled` is SAMPLED."""
    settings = Copies(ngram=section.decontaminate.ngram, max_df=section.decontaminate.max_df)
    ignored = frozenset(map(_hash, shared(sampled, settings).grams))
    minhash_ignored = gram_hashes(shared(sampled, section.minhash).grams) if section.minhash else None
    sizes = [*index.sizes]
    for number in (number for gram in ignored for number in index.grams.get(gram, ())):
        sizes[number] -= 1
    return index._replace(sizes=sizes, ignored=ignored, minhash_ignored=minhash_ignored)


def build_index(texts: pa.Table, section: Decontaminate) -> NgramIndex:
    """Return the index of PROTECTED rows."""
    numbers: dict[int, list[int]] = {}
    rows = texts.sort_by([("list", "ascending"), ("id", "ascending"), ("kind", "ascending")]).to_pylist()
    for number, row in enumerate(rows):
        if row["kind"] == "prompt" or _is_long(row["text"], section):
            for gram in _grams(row["text"], section.ngram):
                numbers.setdefault(gram, []).append(number)
    sizes = Counter(number for of_gram in numbers.values() for number in of_gram)
    return NgramIndex(numbers, [(row["list"], row["id"], row["kind"]) for row in rows], [sizes[at] for at in range(len(rows))])


def overlaps(texts: Iterable[str], index: NgramIndex, section: Decontaminate, *, part: Part = "prompt") -> dict[str, Match]:
    """Return text -> the protected text that it resembles most, for those of `texts`, each a `part` of an example, that share any
    n-gram with one; of equals the one that shares more, then the first.

    The similarity is the share of the n-grams of either that the other has, the larger one: so a protected text is found within a
    long one, too. An n-gram of more than RARE protected texts is boilerplate: which text shares most of a set of such n-grams, in
    number and in share, is found once for all `texts` with that set. So the work grows with the texts, not with their square, where
    all share a passage.
    """
    matches, kinds = {}, KINDS[part]
    of_common: dict[frozenset[int], tuple[Counter[int], Counter[int]]] = {}
    for text in texts:
        if part != "prompt" and not _is_long(text, section):
            continue
        grams = _grams(text, section.ngram) - index.ignored
        known = {gram: index.grams[gram] for gram in grams if gram in index.grams}
        common = frozenset(gram for gram, numbers in known.items() if len(numbers) > RARE)
        if common not in of_common:
            counts = _count(index, (known[gram] for gram in common), kinds)
            of_common = {} if len(of_common) == SETS else of_common
            by_share = {number: (count / index.sizes[number], count) for number, count in counts.items()}
            most = [max(by, key=by.__getitem__) for by in (counts, by_share) if by]
            of_common[common] = counts, Counter({number: counts[number] for number in most})
        counts, best = of_common[common]
        shared = _count(index, (numbers for gram, numbers in known.items() if gram not in common), kinds)
        shared = Counter({number: count + counts[number] for number, count in shared.items()}) | best
        if shared:
            shares = {number: count / min(len(grams), index.sizes[number]) for number, count in shared.items()}
            number = min(shared, key=lambda number: (-shares[number], -shared[number], number))
            matches[text] = Match(*index.texts[number][:2], shares[number])
    return matches


def _count(index: NgramIndex, of_grams: Iterable[list[int]], kinds: Collection[str]) -> Counter[int]:
    """Return number of a protected text of `kinds` -> how many of the n-grams it contains, in the order of the numbers."""
    counts = Counter(number for numbers in of_grams for number in numbers)
    return Counter({number: counts[number] for number in sorted(counts) if index.texts[number][2] in kinds})


def _is_long(text: str, section: Decontaminate) -> bool:
    return len(words(text)) >= section.ngram


def _grams(text: str, size: int) -> set[int]:
    return {_hash(gram) for gram in ngrams(text, size)}


def _hash(gram: Sequence[str]) -> int:
    return xxhash.xxh3_64_intdigest(" ".join(gram).encode("utf-8", "surrogatepass"))
