"""An instruction that most prompts of a source repeat is no likeness; copies are found all the same."""

import random

import in_process
import numpy as np
import pyarrow as pa
import pytest

from engine.contract.curation import Curation
from engine.contract.prompts import Copies
from engine.curation.entries import entries
from engine.curation.ngram_index import build_index, protected, sample_prompts, with_shared
from engine.dedup import shared as shared_room
from engine.dedup.minhash import gram_hashes, text_keys
from engine.dedup.shared import SAMPLED, bottom, merge
from engine.prompts.copies import shared_ngrams, sign
from engine.prompts.sources import INGESTED, LINE_BITS
from engine.readers.paths import source_of
from engine.rows import PROMPT

INSTRUCTION = " ".join(f"step{chr(97 + number)}" for number in range(26)) + " read the letter with care then answer in one word"
OTHER = "translate what follows into plain french and keep every number and every name as it stands in the text that is given"


def own(number):
    """Return words that no other number has."""
    return " ".join(f"{word}{number}" for word in ("apple", "bridge", "clock", "delta"))


def ingested(texts, *, holdout=(), round=0):
    """Return INGESTED rows; a text is (source, text)."""
    rows = []
    for line, (source, text) in enumerate([*texts, *holdout], 1):
        split = "train" if line <= len(texts) else "holdout"
        row = {"prompt_id": f"{split}{line:04d}", "split": split, "text": text, "path": source, "source": source, "task_unit": "u"}
        row |= {"row_key": (split == "holdout") << LINE_BITS | line, "reason": "", "round": round, "line": line}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=INGESTED)


def dispositions(table, copies):
    ignored = gram_hashes(shared_ngrams(sign(table, copies), copies).grams)
    found = in_process.dispositions(sign(table, copies, ignored), copies)
    ids = dict(zip(table["row_key"].to_pylist(), table["prompt_id"].to_pylist(), strict=True))
    return {ids[row["row_key"]]: row["disposition"] for row in found.to_pylist()}


@pytest.mark.parametrize("count", [10, 40])
def test_prompts_of_one_instruction_stay_and_their_copies_go(count):
    texts = [("a", f"{INSTRUCTION} {own(number)}") for number in range(count)]
    copies = [("a", f"{INSTRUCTION}: {own(3)}!"), ("a", f"{INSTRUCTION} {own(200)} {own(201)} indeed")]
    held = [("h", f"{INSTRUCTION} {own(number)}") for number in (100, 101)]
    held += [("h", f"{INSTRUCTION} {own(200)} {own(201)}")]
    found = dispositions(ingested(texts + copies, holdout=held), Copies(threshold=0.7))
    assert sorted(found.values()) == ["holdout_near", "near_copy"]
    assert len(dispositions(ingested(texts + copies, holdout=held), Copies(max_df=1.0, threshold=0.7))) > count


def test_each_source_has_an_instruction_of_its_own_and_the_words_are_named():
    texts = [(source, f"{words} {own(number)}") for number in range(60) for source, words in (("a", INSTRUCTION), ("b", OTHER))]
    texts = [(source, text.replace("0", "0" + source)) for source, text in texts] + [("c", own(number)) for number in range(200)]
    found = shared_ngrams(sign(ingested(texts), Copies()), Copies())
    groups = {group: (words.ngrams > 0, words.share) for group, words in found.groups.items()}
    assert groups["train source a"] == groups["train source b"] == (True, 1.0) and "train source c" not in groups
    assert found.groups["train source a"].words.startswith("stepa stepb stepc")
    assert not any(word.endswith("7") for gram in found.grams for word in gram)


def test_few_prompts_and_a_passage_of_half_of_them_count_as_they_are():
    few = [("a", f"{INSTRUCTION} {own(number)}") for number in range(9)]
    assert not shared_ngrams(sign(ingested(few), Copies()), Copies()).grams
    half = [("a", f"{INSTRUCTION if number % 2 else ''} {own(number)}") for number in range(40)]
    found = shared_ngrams(sign(ingested(half), Copies()), Copies())
    assert not found.grams and found.groups["train source a"].share == 0.5
    assert shared_ngrams(sign(ingested(half), Copies()), Copies(max_df=0.4)).grams


def test_synthesized_prompts_do_not_change_what_counts():
    written = ingested([("synthesize/x", f"{INSTRUCTION} {own(number)}") for number in range(40)], round=1)
    assert not shared_ngrams(sign(written, Copies()), Copies()).groups


@pytest.mark.parametrize("name", ["data/{}.jsonl", "data/all.jsonl"])
def test_files_of_one_source_count_together(name):
    templates = [" ".join(f"t{kind}w{word}" for word in range(30)) for kind in range(5)]
    texts = [f"{templates[number % 5]} {own(number)}" for number in range(60)]
    files = [name.format(number % 5) for number in range(60)]
    table = ingested([("data", text) for text in texts])
    table = table.set_column(table.schema.get_field_index("source"), "source", pa.array(files))
    found = dispositions(table, Copies(threshold=0.7))
    assert len(found) == 55 and set(found.values()) == {"near_copy"}
    rows = [{"text": text, "source": file, "task_unit": "u"} for text, file in zip(texts, files, strict=True)]
    for path in ("data", "data/", "data/*.jsonl", "data/**/*.jsonl", "data/*"):
        sampled = sample_prompts(pa.Table.from_pylist(rows, schema=PROMPT), "train", [path, "other"])
        assert set(sampled["group"].to_pylist()) == {f"train source {path}", "train task_unit u"} and len(sampled) == 120


def test_file_is_of_the_source_that_names_it():
    paths = ["a.jsonl", "more", "s3://b/x-*.csv", "p[1]/q.jsonl", "n*.json", "~/h/**/z?.tsv", "r/*"]
    names = {"a.jsonl": "a.jsonl", "more/u/b.csv": "more", "s3://b/x-3.csv": "s3://b/x-*.csv", "p[1]/q.jsonl": "p[1]/q.jsonl"}
    names |= {"./n1.json": "n*.json", "~/h/z1.tsv": "~/h/**/z?.tsv", "~/h/k/z1.tsv": "~/h/**/z?.tsv", "r/k/z.csv": "r/*"}
    names |= {"a.jsonl.gz": "a.jsonl.gz", "moreover/x.csv": "moreover/x.csv", "synthesize/n": "synthesize/n"}
    assert {name: source_of(name, paths) for name in names} == names


@pytest.mark.parametrize("seed", range(3))
def test_sample_does_not_depend_on_order_or_blocks(monkeypatch, seed):
    monkeypatch.setattr(shared_room, "SAMPLE", 7)
    texts = [f"text {number % 50}" for number in range(120)]
    rows = pa.table({"group": [f"g{number % 3}" for number in range(120)], "key": text_keys(pa.array(texts)), "text": texts})
    rows = rows.cast(SAMPLED)
    whole = merge([rows]).sort_by([("group", "ascending"), ("key", "ascending")])
    assert len(whole) == 21
    rng = random.Random(seed)
    rows = rows.take(rng.sample(range(120), 120))
    cut = rng.randrange(1, 119)
    parts = [merge([rows.slice(0, cut)]), merge([rows.slice(cut)])]
    assert merge(parts).sort_by([("group", "ascending"), ("key", "ascending")]).equals(whole)
    assert len(bottom(pa.array([], pa.string()), np.array([], np.uint64))) == 0


def test_dataset_ignores_the_instruction_for_copies_and_contamination():
    texts = [f"{INSTRUCTION} {own(number)}" for number in range(30)]
    rows = [{"text": text, "source": "a", "task_unit": "u"} for text in texts]
    held = pa.table({"prompt_id": ["h0", "h1"], "text": [f"{INSTRUCTION} {own(99)}", texts[5] + " please"]})
    section = Curation()
    index = build_index(protected(held, "holdout"), section.decontaminate)
    aware = with_shared(index, sample_prompts(pa.Table.from_pylist(rows, schema=PROMPT), "train", ["a"]), section)
    names = {"task_unit": "u", "layer": "core", "difficulty": "easy", "pool": "train", "confidence": 1.0, "agreement": 1.0}
    answers = [names | {"answer_id": f"a{n}", "prompt_id": f"p{n}", "text": text, "answer": "x"} for n, text in enumerate(texts)]
    before, after = (entries(pa.Table.from_pylist(answers), one, section) for one in (index, aware))
    assert before["dropped_by"].to_pylist() == ["contaminated"] * 30
    assert [n for n, reason in enumerate(after["dropped_by"].to_pylist()) if reason] == [5]
    signatures = np.array(after["minhash"].to_pylist())
    assert (signatures[0] == signatures[1]).mean() < 0.2
