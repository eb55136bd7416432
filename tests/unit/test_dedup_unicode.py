"""Normal forms and characters without width make no text different; ASCII is compared as it is."""

import unicodedata

import pyarrow as pa
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.curation import Decontaminate
from engine.contract.prompts import Copies
from engine.curation.ngram_index import HOLDOUT, build_index, overlaps, protected
from engine.dedup.index import normalization_of
from engine.dedup.job import Columns, open_job
from engine.dedup.minhash import estimate, gram_hashes, minhash, text_keys
from engine.dedup.words import IGNORABLE, canonical, ngrams, normalize
from engine.storage.folder import Folder

SENTENCE = "Die K\u00f6nigin von \u00d6sterreich \u00fcberlegt, ob sie die sch\u00f6ne Stra\u00dfe nach S\u00fcden nimmt"
SPELLINGS = [
    SENTENCE,
    unicodedata.normalize("NFD", SENTENCE),
    SENTENCE.replace(" ", "\u00a0"),
    SENTENCE.replace("e", "e\u200b"),
    SENTENCE.replace("n", "\u00adn"),
    "\ufeff" + SENTENCE.replace(" ", "\u3000"),
    SENTENCE.replace("K\u00f6", "Ko\u200d\u0308"),  # the mark joins its letter once the joiner is left out
]
MARKS = st.sampled_from(
    "\u200b\u200d\u00ad\u0301\u0308\u0323\u3099\u1161\u11a8\u1100\u0cc2\ufeff\ufe0f\u00b2\uff21\ufb01 ae\u304b\u00e9\u1e69s"
)


def test_spellings_of_a_sentence_are_one_text():
    column = pa.array(SPELLINGS)
    assert len(set(text_keys(column).tolist())) == 1
    minima = minhash(column, Copies())
    assert (minima == minima[0]).all()
    assert len(set(text_keys(column, "none").tolist())) == 6
    assert column.to_pylist() == SPELLINGS


@pytest.mark.parametrize("form", ["nfc", "nfkc", "none"])
def test_superscripts_and_wide_letters_are_plain_in_nfkc_only(form):
    wide, plain = text_keys(pa.array(["x\u00b2 \uff21\ufb01", "x2 Afi"]), form).tolist()
    assert (wide == plain) == (form == "nfkc")


@settings(deadline=None, max_examples=80)
@given(st.lists(st.one_of(st.text(max_size=8), st.text(MARKS, max_size=8)), max_size=6), st.sampled_from(["nfc", "nfkc", "none"]))
def test_keys_and_signatures_of_any_text_are_those_of_its_canonical_form(texts, form):
    column, plain = pa.array(texts, pa.string()), pa.array([canonical(text, form) for text in texts], pa.string())
    copies = Copies(num_perm=8, ngram=2, normalization=form)
    assert minhash(column, copies).tolist() == minhash(plain, copies.model_copy(update={"normalization": "none"})).tolist()
    assert text_keys(column, form).tolist() == text_keys(plain, "none").tolist()
    assert len(set(text_keys(column, form).tolist())) == len({normalize(text, form) for text in texts})


def test_characters_without_width_are_those_of_the_standard():
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    expected = set(regex.findall(r"\p{Default_Ignorable_Code_Point}", every))
    assert {character for found in IGNORABLE.findall(every) for character in found} == expected


def test_ascii_and_composed_texts_are_not_looked_at_one_by_one(monkeypatch):
    monkeypatch.setattr("engine.dedup.minhash.canonical", lambda *_: pytest.fail("a text was normalized"))
    monkeypatch.setattr("engine.dedup.characters.unstable", lambda _: pytest.fail("a pattern was made of ASCII"))
    text_keys(pa.array(["plain", "words"]))
    monkeypatch.undo()
    monkeypatch.setattr("engine.dedup.minhash.canonical", lambda *_: pytest.fail("a text was normalized"))
    text_keys(pa.array([SENTENCE, "\u4f60\u597d", "\ud55c\uad6d\uc5b4"]))


def test_bytes_that_are_no_utf8_are_compared_as_they_are():
    raw = pa.array([b"caf\xff", b"caf\xfe", "cafe\u0301\u200b".encode() + b"\xff"], pa.binary()).view(pa.string())
    assert len(set(text_keys(raw).tolist())) == 3


def test_ngrams_that_do_not_count_are_left_out_of_signatures():
    copies = Copies(num_perm=64, ngram=2)
    texts = ["one two three four", "one two three five", "\u4f60\u597d\u5417\u6211", "one two"]
    shared = gram_hashes(gram for text in ("one two three", "\u4f60\u597d\u5417") for gram in ngrams(text, 2))
    minima = minhash(pa.array(texts), copies, shared)
    assert estimate(minima[:1], minima[1:2])[0] == 0 and estimate(minima[3:], minima[3:])[0] == 0
    assert minima[0].tolist() == minhash(pa.array(["three four"]), copies)[0].tolist()
    assert minima[2].tolist() == minhash(pa.array(["\u5417\u6211"]), copies)[0].tolist()


def test_decontamination_compares_canonical_texts():
    section = Decontaminate(ngram=4)
    index = build_index(protected(pa.table({"prompt_id": ["h"], "text": [SENTENCE]}), HOLDOUT), section)
    assert {match.similarity for match in overlaps(SPELLINGS, index, section).values()} == {1.0}


def test_index_keeps_the_form_it_was_made_with(tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": [1], "text": [SENTENCE]}), tmp_path / "a.parquet")
    folder = Folder(str(tmp_path / "index"))
    assert normalization_of(folder) is None
    job = open_job(str(tmp_path / "a.parquet"), Columns(normalization="nfkc"), Copies(normalization="nfkc"), index=folder)
    assert job.index
    job.index.add([], 1)
    assert normalization_of(folder) == "nfkc"
    record = (tmp_path / "index" / "batch-00000" / "record.json").read_text()
    (tmp_path / "index" / "batch-00000" / "record.json").write_text(record.replace('"normalization"', '"unknown_then"'))
    assert normalization_of(folder) == "none" and "max_df" not in record
