"""Contamination of prompts, answers and rationales by the holdout and evaluation lists, by n-grams and by embedding."""

import numpy as np
import pyarrow as pa
import pytest
from in_process import decide

from engine.contract.curation import Curation, Decontaminate, Pick, Semantic
from engine.curation.contamination import CONTAMINATION, by_embedding, by_ngrams, counted, summary
from engine.curation.embedder import EMBEDDED
from engine.curation.entries import contamination_of, entries
from engine.curation.ngram_index import HOLDOUT, PROTECTED, build_index, protected
from engine.curation.represent import parts_of
from engine.curation.samples import best
from engine.rows import grow

MAIL = "please send eight blue hand mirrors to the usual address in Oxford"
TRUTH = "the customer wants eight mirrors of blue glass for the house in Oxford"
CLEAN = "a text that shares no run of words with any of the others at all"
HELD = pa.table({"prompt_id": ["h1"], "text": [MAIL], "reference": ["eight"]})
EXAM = pa.table({"prompt_id": ["e1", None], "text": ["what is it", None], "reference": [TRUTH, None], "path": ["exam.jsonl"] * 2})
KNOWN = pa.concat_tables([protected(HELD, HOLDOUT), protected(EXAM)])
SECTION = Decontaminate(ngram=4, overlap=0.5)


def rows(*pairs):
    """Each is (text, answer)."""
    columns = {
        "answer_id": [f"a{n}" for n in range(len(pairs))],
        "text": [one[0] for one in pairs],
        "answer": [one[1] for one in pairs],
    }
    return pa.table(columns)


def by(table, *names):
    return [tuple(row[name] for name in names) for row in table.select(names).to_pylist()]


def test_protected_is_every_text_of_the_holdout_and_of_the_lists_with_its_kind():
    expected = [
        (HOLDOUT, "h1", "prompt"),
        (HOLDOUT, "h1", "reference"),
        ("exam.jsonl", "e1", "prompt"),
        ("exam.jsonl", "e1", "reference"),
    ]
    assert sorted(by(KNOWN, "list", "id", "kind")) == sorted(expected)


@pytest.mark.parametrize(
    ("text", "answer", "part", "where"),
    [
        (MAIL.upper(), "eight", "prompt", (HOLDOUT, "h1")),
        (CLEAN, TRUTH, "answer", ("exam.jsonl", "e1")),
        (CLEAN, f'{TRUTH}, so {{"n": 8}}', "rationale", ("exam.jsonl", "e1")),
        (CLEAN, f'short {{"said": "{MAIL}"}}', "answer", (HOLDOUT, "h1")),
    ],
)
def test_each_part_is_compared_and_what_it_collides_with_is_named(text, answer, part, where):
    (found,) = by_ngrams(rows((text, answer)), build_index(KNOWN, SECTION), SECTION).to_pylist()
    assert (found["part"], found["list"], found["id"], found["is_contaminated"]) == (part, *where, True)
    (other,) = by_ngrams(rows((text, answer)), build_index(KNOWN, SECTION), SECTION.model_copy(update={"fields": ()})).to_pylist()
    assert (other["list"], other["is_contaminated"]) == (None, False)


def test_missing_answer_is_not_contaminated():
    assert by_ngrams(rows((CLEAN, None)), build_index(KNOWN, SECTION), SECTION)["is_contaminated"].to_pylist() == [False]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (TRUTH, "x"),  # a prompt that has the words of a reference: nothing that is asked in the exam
        (CLEAN, "eight"),  # the right answer to a holdout prompt, and to many others
        (CLEAN, "what is it"),
    ],
)
def test_shared_answers_and_short_texts_are_not_contaminated(text, answer):
    (found,) = by_ngrams(rows((text, answer)), build_index(KNOWN, SECTION), SECTION).to_pylist()
    assert not found["is_contaminated"]


def test_contaminated_answer_is_dropped_and_another_represents_the_prompt():
    candidates = pa.Table.from_pylist(
        [
            {"answer_id": f"a{n}", "prompt_id": "p", "pool": "train", "confidence": 0.9 - n / 10, "agreement": 1.0,
             "answer": answer, "layer": "core", "difficulty": "easy", "task_unit": "t", "text": CLEAN}
            for n, answer in enumerate([TRUTH, "mirrors"])
        ]
    )  # fmt: skip
    found = best(entries(candidates, build_index(KNOWN, SECTION), Curation(decontaminate=SECTION)))
    assert by(found, "answer_id", "dropped_by", "duplicate_of") == [("a0", "contaminated", "e1"), ("a1", "", "")]
    assert by(contamination_of(found), "answer_id", "list", "part", "is_contaminated") == [
        ("a0", "exam.jsonl", "answer", True),
        ("a1", None, None, False),
    ]


def unit(*angles):
    return [[float(np.cos(np.radians(one))), float(np.sin(np.radians(one)))] for one in angles]


SEEN = pa.Table.from_pylist(
    [dict(row, embedding=vector) for row, vector in zip(KNOWN.sort_by("id").to_pylist(), unit(90, 80, 0, 10), strict=True)],
    schema=grow(PROTECTED, ("embedding", pa.list_(pa.float32()))),
)  # e1 prompt 90, e1 reference 80, h1 prompt 0, h1 reference 10 degrees


def embedded(*rows):
    """Each is (angle of the prompt, angle of the answer or None)."""
    made = [
        {"prompt_id": f"p{n}", "answer_id": f"a{n}", "embedding": unit(one)[0], "answer_embedding": other and unit(other)[0],
         "text": CLEAN, "scenario": "", "confidence": 1.0, "agreement": 1.0, "length": 1}
        for n, (one, other) in enumerate(rows)
    ]  # fmt: skip
    return pa.Table.from_pylist(made, schema=EMBEDDED)


def test_each_part_has_its_own_limit_of_meaning_and_the_nearest_to_it_is_named():
    section = Decontaminate(similarity={"prompt": 0.95, "answer": 0.999})
    found = by_embedding(embedded((5, None), (85, None), (45, 80), (45, 76), (30, None)), SEEN, section)
    assert by(found, "list", "part", "is_contaminated") == [
        (HOLDOUT, "prompt", True), ("exam.jsonl", "prompt", True), ("exam.jsonl", "answer", True), ("exam.jsonl", "answer", False),
        (HOLDOUT, "prompt", False),
    ]  # fmt: skip
    assert found["similarity"][0].as_py() == pytest.approx(np.cos(np.radians(5)), abs=1e-6)


def test_without_a_limit_of_meaning_nothing_is_out_and_the_nearest_is_known():
    found = by_embedding(embedded((0, 10)), SEEN, Decontaminate())
    assert by(found, "id", "part", "is_contaminated", "similarity") == [("h1", "prompt", False, 1.0)]


@pytest.mark.parametrize("pairs", [[], [(0, None), (45, None)]])
def test_rows_of_which_none_has_the_part_are_not_contaminated(pairs):
    section = Decontaminate(similarity={"answer": 0.9, "rationale": 0.9})
    found = by_embedding(embedded(*pairs), SEEN, section)
    assert by(found, "part", "is_contaminated") == [("prompt", False)] * len(pairs)


def test_contaminated_by_meaning_loses_to_the_listed_text_and_no_copy_loses_to_it():
    section = Curation(
        semantic=Semantic(threshold=0.9), decontaminate=Decontaminate(similarity={"prompt": 0.99}), pick=Pick(clusters=1)
    )
    found = decide(embedded((0, None), (10, None)), section, SEEN)
    assert by(found.dispositions, "answer_id", "dropped_by", "duplicate_of") == [("a0", "contaminated", "h1"), ("a1", "", "")]
    assert found.dispositions["similarity"].to_pylist() == [1.0, None]


def test_report_counts_what_is_out_and_names_the_closest_that_stay():
    words = by_ngrams(
        rows((MAIL, "x"), (MAIL + " now or at any other time", "x"), (CLEAN, "x")), build_index(KNOWN, SECTION), SECTION
    )
    meaning = by_embedding(embedded((0, None), (20, None), (40, None)), SEEN, Decontaminate())
    report = summary([counted(table, pa.array(["a1", "a2"])) for table in (words, meaning)], KNOWN, SECTION)
    assert report.checked == 3 and report.lists == {HOLDOUT: 2, "exam.jsonl": 2}
    assert [row.model_dump() for row in report.removed] == [{"list": HOLDOUT, "part": "prompt", "method": "ngram", "answers": 2}]
    assert [(row.answer_id, row.method) for row in report.closest] == [
        ("a1", "ngram"),
        ("a1", "embedding"),
        ("a2", "embedding"),
    ]
    assert CONTAMINATION.names == words.column_names == meaning.column_names


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('so it is 3: {"n": 3}', ("so it is 3:", '{"n": 3}')),
        ('{"n": 3}', ("", '{"n": 3}')),
        (" plain text ", ("", "plain text")),
    ],
)
def test_parts_of_an_answer_are_what_stands_before_its_json_and_the_rest(answer, expected):
    assert parts_of(answer) == expected
