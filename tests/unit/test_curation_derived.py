"""Data derived from answers: preference pairs, contrastive examples, and the labels of persons."""

import pyarrow as pa
import pytest
from derived_world import SPECIALIST, TEXT, answer, form, table, wrong
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from engine.contract.curation import Curation
from engine.curation import contrastive as module
from engine.curation.contrastive import contrastive_examples, counted, highest, last, max_contrastive, near, ranks, up_to
from engine.curation.labels import LABEL, apply_labels, corrected_id
from engine.curation.ngram_index import PROTECTED, build_index
from engine.curation.pairs import pairs, summary
from engine.curation.prompt_answers import drop_contaminated, drop_contaminated_targets
from engine.rows import CANDIDATE, EXAMPLE, KINDS, PICKED, PREFERENCE, content_id

EVERY = [{"type": "correction"}, {"type": "contrast"}, {"type": "refusal"}, {"type": "ask"}]


def pairs_of(*rows, **preferences):
    section = Curation.model_validate({"preferences": preferences, "semantic": None})
    return pairs(table(*rows), SPECIALIST, section).to_pylist()


def test_pair_is_what_a_preference_trainer_reads():
    [pair] = pairs_of(answer("a", form()), wrong())
    assert pair["prompt"] == [{"role": "system", "content": "Fill in."}, {"role": "user", "content": TEXT}]
    assert pair["chosen"] == [{"role": "assistant", "content": '{"number":"7","item":"lamps"}'}]
    assert pair["rejected"] == [{"role": "assistant", "content": '{"number":"7","item":"chair"}'}]
    assert (pair["chosen_id"], pair["rejected_id"], pair["reason"], pair["margin"]) == ("a", "w", "ungrounded", 1.0)
    assert pair["length_ratio"] == pytest.approx(1.0)


def test_pairs_are_as_many_as_the_contract_allows_and_the_clearest_first():
    rows = [answer("a", form()), *(wrong(f"w{n}", form(item=f"chair{n}"), confidence=n / 10) for n in range(3))]
    assert [pair["rejected_id"] for pair in pairs_of(*rows)] == ["w0"]
    assert {pair["rejected_id"] for pair in pairs_of(*rows, max_per_prompt=2)} == {"w0", "w1"}


def test_pair_of_very_different_lengths_is_none():
    assert pairs_of(answer("a", form()), wrong("w", form(item="chair " * 20))) == []
    assert len(pairs_of(answer("a", form()), wrong("w", form(item="chair " * 20)), length_ratio=10)) == 1


def test_pair_can_be_matched_in_length_first():
    rows = [answer("a", form()), wrong("w1", form(item="x"), confidence=0.0), wrong("w2", form(item="lampe"), confidence=0.9)]
    assert pairs_of(*rows)[0]["rejected_id"] == "w1"
    assert pairs_of(*rows, prefer="length")[0]["rejected_id"] == "w2"


def test_second_accepted_answer_is_rejected_only_if_it_is_less_sure_by_the_margin():
    rows = [answer("a", form(), confidence=0.9), answer("b", form("8"), confidence=0.85, dropped_by="sample")]
    assert pairs_of(*rows) == []
    assert [(pair["reason"], pair["rejected_id"]) for pair in pairs_of(*rows, margin=0.01)] == [("less_sure", "b")]


@pytest.mark.parametrize(
    "rows",
    [
        [answer("a", form(), dropped_by="contaminated"), wrong()],
        [answer("a", form(), dropped_by="minhash"), wrong()],
        [answer("a", form(), dropped_by="semantic"), wrong()],
        [wrong("w1"), wrong("w2", form(item="bench"))],  # nothing is accepted, so nothing is chosen
        [answer("a", form()), wrong(said=form() + " ")],  # they say the same
        [answer("a", form()), wrong(finish_reason="length")],
        [answer("a", form()), answer("r", form("8"), pool="review")],
    ],
)
def test_no_pair_is_made_of_copies_leaks_or_what_is_not_known_to_be_worse(rows):
    assert pairs_of(*rows) == []


def test_answers_that_resemble_the_holdout_are_taken_out_before_pairs_are_made():
    listed = pa.Table.from_pylist([{"list": "holdout", "id": "h", "kind": "prompt", "text": TEXT}], schema=PROTECTED)
    section = Curation.model_validate({"decontaminate": {"ngram": 4}, "preferences": {}, "contrastive": EVERY})
    rows = pa.Table.from_pylist([answer("a", form()), wrong()], schema=PICKED)
    assert drop_contaminated(rows, build_index(listed, section.decontaminate), section).num_rows == 0
    assert drop_contaminated(rows, build_index(listed.slice(0, 0), section.decontaminate), section).num_rows == 2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["p1", "p2", "p3"]),
            st.sampled_from(["train", "contrast", "failure", "hard", "review", "refusal"]),
            st.sampled_from(["", "sample", "contaminated", "exact", "quota"]),
            st.none() | st.floats(0, 1, width=32),
            st.sampled_from([form(), form("8"), form(item="chair"), "text", ""]),
        ),
        max_size=12,
    )
)
def test_pairs_of_any_answers_keep_what_the_contract_asks(found):
    rows = [
        answer(f"a{n}", said, pool=pool, prompt_id=prompt, confidence=sure, reasons=["accepted" if pool == "train" else "why"])
        | {"dropped_by": fate if pool in ("train", "refusal") else "pool"}
        for n, (prompt, pool, fate, sure, said) in enumerate(found)
    ]
    by_id = {row["answer_id"]: row for row in rows}
    section = Curation.model_validate(
        {"preferences": {"max_per_prompt": 2, "margin": 0.2, "rejected": ["contrast", "failure", "hard"]}}
    )
    made = pairs(table(*rows), SPECIALIST, section)
    assert made.schema == PREFERENCE
    assert made.equals(pairs(table(*rows[::-1]), SPECIALIST, section))
    for pair in made.to_pylist():
        chosen, rejected = by_id[pair["chosen_id"]], by_id[pair["rejected_id"]]
        assert chosen["prompt_id"] == rejected["prompt_id"] == pair["prompt_id"]
        assert chosen["pool"] in ("train", "refusal") and chosen["dropped_by"] in ("", "quota")
        assert pair["chosen"] != pair["rejected"] and pair["reason"]
        assert 0.5 <= pair["length_ratio"] <= 2
        assert pair["reason"] != "less_sure" or pair["margin"] >= 0.2
    assert summary([made]).pairs == made.num_rows


def contrastive(*rows, kinds=EVERY):
    section = Curation.model_validate({"contrastive": kinds, "semantic": None})
    made = contrastive_examples(table(*rows), SPECIALIST, section)
    assert made.schema == EXAMPLE and set(made["kind"].to_pylist()) <= set(KINDS[1:])
    return {row["example_id"]: row for row in made.to_pylist()}


def test_failed_answer_beside_an_accepted_one_becomes_correction_contrast_and_question():
    made = contrastive(answer("a", form(item=None)), wrong())
    assert set(made) == {"w-correction", "w-contrast", "a-contrast", "w-ask"}
    fixed = made["w-correction"]
    assert fixed["target"] == '{"number":"7","item":null}'
    assert [turn["role"] for turn in fixed["messages"]] == ["system", "user", "assistant", "user"]
    assert "the input does not say item=chair" in fixed["messages"][-1]["content"]
    assert made["w-contrast"]["target"] == "No: the input does not say item=chair."
    assert made["a-contrast"]["target"] == "Yes."
    assert made["w-ask"]["target"] == "Please say: item."
    assert {row["prompt_id"] for row in made.values()} == {"p"} and made["w-contrast"]["pool"] == "contrast"


def test_where_no_answer_was_accepted_what_the_input_does_not_say_is_left_open():
    made = contrastive(wrong())
    assert set(made) == {"w-contrast", "w-refusal", "w-ask"}
    assert (made["w-refusal"]["target"], made["w-refusal"]["limits"]) == ('{"number":"7","item":null}', "not stated: item")


def test_field_that_the_accepted_answer_fills_is_not_asked_for():
    assert "w-ask" not in contrastive(answer("a", form()), wrong())


@pytest.mark.parametrize(
    "row",
    [
        answer("r", form("8"), pool="review", reasons=["low_confidence"]),  # nobody says what does not hold
        answer("o", form("8"), pool="contrast", reasons=["outranked"]),
        wrong(finish_reason="length"),
    ],
)
def test_answer_without_a_known_fault_teaches_nothing(row):
    assert contrastive(row) == {}


def test_contrastive_is_off_by_default_and_names_each_kind_once():
    assert Curation().contrastive == () and Curation().preferences is None
    with pytest.raises(ValidationError, match="types must differ"):
        Curation.model_validate({"contrastive": [{"type": "ask"}, {"type": "ask", "prompt_template": "What else?"}]})


@given(st.integers(0, 5000), st.floats(0, 0.95))
def test_contrastive_examples_are_never_more_than_its_share(examples, share):
    count = max_contrastive(examples, share)
    assert count <= share * (examples + count) + 1e-6
    assert (count + 1) > share * (examples + count + 1) - 1e-6  # and no smaller than it must be


def highest_rank(blocks, count):
    """Return the highest rank of the `count` examples of `blocks` with the lowest ones."""
    ranked = [ranks(block, 0) for block in blocks]
    found = last(count, *map(counted, ranked))
    return highest(found, *(near(found, mine) for mine in ranked))


@pytest.mark.parametrize("bits", [2, 12])
def test_highest_rank_is_that_of_all_sorted_whatever_ranges_are_counted(bits, monkeypatch):
    monkeypatch.setattr(module, "RANGE_BITS", bits)
    blocks = [pa.table({"example_id": [f"{n}-{part}" for n in range(size)]}) for part, size in enumerate((40, 0, 1, 60))]
    every = sorted(rank for block in blocks for rank in ranks(block, 0)["rank"].to_pylist())
    assert [highest_rank(blocks, count) for count in range(104)] == [-1, *every, *every[-1:] * 2]


def test_chosen_examples_are_the_same_in_any_order_and_those_of_earlier_builds():
    ids = [f"{n:x}-ask" for n in range(50)]
    blocks = [pa.table({"example_id": some}) for some in (ids[:20], ids[20:])]
    rank = highest_rank(blocks, 7)
    chosen = [name for block in blocks for name in up_to(block, rank, 0)["example_id"].to_pylist()]
    assert chosen == sorted(sorted(ids, key=lambda name: content_id("boundary", 0, name))[:7], key=ids.index)
    assert up_to(blocks[0], highest_rank(blocks[:1], 1), 0).num_rows == 1 and "1b-ask" in chosen
    assert up_to(blocks[0], highest_rank(blocks[:1], 99), 0).equals(blocks[0])
    assert not up_to(blocks[0], highest_rank(blocks[:1], 0), 0).num_rows


def labelled(*labels):
    said = [{"correction": "", **dict(zip(LABEL.names, label, strict=False))} for label in labels]
    rows = [answer("a", form("8"), pool="review"), answer("b", form()), answer("c", '{"number": null}', pool="review")]
    candidates = pa.Table.from_pylist([{name: row.get(name) for name in CANDIDATE.names} for row in rows], schema=CANDIDATE)
    made = apply_labels(candidates, pa.Table.from_pylist(said, schema=LABEL))
    assert made.schema == CANDIDATE
    return {row["answer_id"]: row for row in made.to_pylist()}


def test_right_answers_are_learnt_and_wrong_ones_shown():
    found = labelled(("a", "right"), ("b", "wrong"), ("c", "right"))
    assert {key: (row["pool"], row["reasons"]) for key, row in found.items()} == {
        "a": ("train", ["accepted", "person_right"]),
        "b": ("contrast", ["person_wrong"]),
        "c": ("refusal", ["accepted", "person_right"]),
    }
    assert [found[key]["confidence"] for key in "abc"] == [1.0, 0.0, 1.0] and found["a"]["judge"] == "person"
    assert [found[key]["confidence_tier"] for key in "abc"] == [0, None, 0]


def test_correction_is_a_row_of_its_own_whose_parent_is_the_answer():
    found = labelled(("a", "corrected", form("9")))
    made = found[corrected_id("a", form("9"))]
    assert (made["answer"], made["pool"], made["parents"], made["teacher"]) == (form("9"), "train", ["a"], "")
    assert made["reasons"] == ["accepted", "person_wrote"] and found["a"]["reasons"] == ["person_corrected"]
    assert (found["a"]["pool"], len(found)) == ("contrast", 4)


def test_labels_of_answers_elsewhere_change_nothing():
    assert labelled(("zzz", "wrong")).keys() == {"a", "b", "c"}


def test_correction_and_what_it_corrects_are_a_pair():
    rows = [row for key, row in labelled(("a", "corrected", form("9"))).items() if key not in "bc"]
    [pair] = pairs_of(*(row | {"dropped_by": "" if row["pool"] == "train" else "pool"} for row in rows))
    assert (pair["rejected_id"], pair["reason"]) == ("a", "person_corrected")


def test_what_was_mended_into_a_text_of_the_holdout_is_taken_out():
    listed = pa.Table.from_pylist([{"list": "holdout", "id": "h", "kind": "reference", "text": TEXT}], schema=PROTECTED)
    section = Curation.model_validate({"decontaminate": {"ngram": 4}})
    made = pa.Table.from_pylist([{"example_id": "1", "target": TEXT}, {"example_id": "2", "target": form()}], schema=EXAMPLE)
    assert drop_contaminated_targets(made, build_index(listed, section.decontaminate), section)["example_id"].to_pylist() == ["2"]
