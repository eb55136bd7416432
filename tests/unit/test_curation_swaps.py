"""Variants of training examples with other quoted values."""

import json

import pyarrow as pa
import pytest

from engine.contract.curation import Curation
from engine.contract.derived import Swaps
from engine.contract.specialist import Specialist
from engine.curation import swaps as module
from engine.curation.ngram_index import PROTECTED, build_index
from engine.curation.prompt_answers import drop_contaminated_examples
from engine.curation.swaps import merged, swapped, values_of
from engine.rows import EXAMPLE

FIELDS = {"number": {"type": ["string", "null"]}, "item": {"type": ["string", "null"]}, "note": {"type": ["string", "null"]}}
SPECIALIST = Specialist.model_validate(
    {
        "goal": "Read.",
        "task_units": [
            {
                "name": "form",
                "kind": "extraction",
                "instruction": "Fill in.",
                "output": {
                    "json_schema": {"type": "object", "properties": FIELDS, "required": [*FIELDS], "additionalProperties": False},
                    "spans": {"number": 1, "item": 2},
                },
            }
        ],
    }
)


def example(name, text, number=None, item=None, **more):
    form = json.dumps({"number": number, "item": item, "note": None}, separators=(",", ":"))
    return {
        "example_id": name, "prompt_id": name, "task_unit": "form", "target": form, "final": form, "rationale": "", "limits": "",
        "messages": [{"role": "system", "content": f"Fill in {text}"}, {"role": "user", "content": text}], "pool": "train",
        "layer": "core", "difficulty": "easy", "cluster": 0, "weight": 1.0, "split": "train",
        "kind": "answer", "confidence_tier": 0,
    } | more  # fmt: skip


def variants(*rows, specialist=SPECIALIST, **swaps):
    examples = pa.Table.from_pylist(list(rows), schema=EXAMPLE)
    section = Curation(swaps=Swaps(**swaps), semantic=None)
    return swapped(examples, values_of(examples, specialist), specialist, section).to_pylist()


def text_of(row):
    return row["messages"][-1]["content"]


LAMP = example("a" * 32, "Order 123: desk lamp, one desk lamp.", "123", "desk lamp")
CHAIR = example("b" * 32, "A chair, please. No. 4567", "4567", "chair")


def test_each_mention_of_a_value_is_replaced_in_prompt_and_target():
    [lamp, chair] = variants(LAMP, CHAIR, per_example=1)
    assert text_of(lamp) == "Order 4567: chair, one chair."
    assert json.loads(lamp["target"]) == {"number": "4567", "item": "chair", "note": None}
    assert lamp["final"] == lamp["target"] and (lamp["kind"], lamp["example_id"]) == ("swap", "a" * 32 + "-swap1")
    assert text_of(chair) == "A desk lamp, please. No. 123"
    kept = {name: LAMP[name] for name in EXAMPLE.names if name not in ("example_id", "messages", "target", "final", "kind")}
    assert {name: lamp[name] for name in kept} == kept
    assert lamp["messages"][0]["content"] == LAMP["messages"][0]["content"], "only turns of the user are changed"


def test_digits_are_other_digits_of_the_same_count_and_other_fields_stay():
    made = variants(LAMP, CHAIR, per_example=8, fields={"number": "digits"})
    numbers = [json.loads(row["target"])["number"] for row in made if row["prompt_id"] == LAMP["prompt_id"]]
    assert len(set(numbers)) > 4 and all(len(n) == 3 and n.isdigit() and n[0] != "0" and n != "123" for n in numbers)
    assert all(json.loads(row["target"])["item"] in ("desk lamp", "chair") for row in made)
    assert all(json.loads(row["target"])["number"] in text_of(row) for row in made)


def test_values_are_replaced_at_once_so_that_no_new_value_is_replaced_again():
    one = example("a" * 32, "12 of 34", "12", "34")
    two = example("b" * 32, "34 of 12", "34", "12")
    [first, second] = variants(one, two, per_example=1)
    assert text_of(first) == "34 of 12" and json.loads(first["target"])["number"] == "34"
    assert text_of(second) == "12 of 34" and json.loads(second["target"])["item"] == "34"


@pytest.mark.parametrize(
    "row",
    [
        example("c" * 32, "Nothing is said."),
        example("c" * 32, "Number 1234.", "123"),  # part of a word is no mention
        example("c" * 32, "A DESK LAMP", None, "desk lamp"),  # not as it is written
        LAMP | {"split": "validation"},
        LAMP | {"kind": "refusal"},
        LAMP | {"rationale": "It says one hundred and twenty-three."},
        LAMP | {"final": "not JSON"},
    ],
)
def test_what_quotes_nothing_exactly_has_no_variant(row):
    assert {made["prompt_id"] for made in variants(row | {"prompt_id": "it"}, LAMP, CHAIR)} == {
        LAMP["prompt_id"],
        CHAIR["prompt_id"],
    }


def test_a_field_without_another_value_keeps_its_own():
    assert variants(LAMP) == []
    [made, _] = variants(LAMP, example("b" * 32, "No. 4567", "4567"), per_example=1)
    assert json.loads(made["target"]) == {"number": "4567", "item": "desk lamp", "note": None}


@pytest.mark.parametrize(
    "more",
    [
        {"final": json.dumps({"number": "123", "item": "desk lamp", "note": "asks for Desk Lamp in order 123"})},
        {"final": json.dumps({"number": "123", "item": None, "note": {"of": ["no", 123]}})},
        {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Is it 123?"}, *LAMP["messages"][1:]]},
    ],
)
def test_value_that_stands_elsewhere_in_the_target_or_a_turn_of_the_assistant_has_no_variant(more):
    made = variants(LAMP | more | {"prompt_id": "it"}, CHAIR, fields={"number": "digits"})
    assert {row["prompt_id"] for row in made} == {CHAIR["prompt_id"]}
    other = {"final": json.dumps({"number": "123", "item": None, "note": "order 1234"})}
    assert len(variants(LAMP | other, CHAIR, fields={"number": "digits"})) == 6


def test_variants_are_the_same_in_any_order_of_the_examples():
    by_id = {row["example_id"]: row for row in variants(LAMP, CHAIR)}
    assert by_id == {row["example_id"]: row for row in variants(CHAIR, LAMP)} and len(by_id) == 6


def test_variant_that_resembles_the_holdout_is_left_out():
    section = Curation(semantic=None)
    long = "please send the parcel to the old mill by the river before noon and ring twice"
    made = [example("1", f"{long} 7", "7"), example("2", "quite another text with as many words in it as the first one has 7", "7")]
    protected = pa.Table.from_pylist([{"list": "holdout", "id": "h", "kind": "prompt", "text": f"{long} 8"}], schema=PROTECTED)
    index = build_index(protected, section.decontaminate)
    kept = drop_contaminated_examples(pa.Table.from_pylist(made, schema=EXAMPLE), index, section)
    assert kept["example_id"].to_pylist() == ["2"]


@pytest.mark.parametrize("most", [3, 10_000])
def test_values_of_blocks_are_merged_to_those_of_all_examples(most, monkeypatch):
    monkeypatch.setattr(module, "MOST_VALUES", most)
    rows = [example(f"e{n}", f"send {n % 17} lamps {n}", number=str(n % 17), item=f"lamps {n}") for n in range(40)]
    table = pa.Table.from_pylist(rows, schema=EXAMPLE)
    whole = values_of(table, SPECIALIST)
    blocks = [values_of(table.slice(start, 9), SPECIALIST) for start in range(0, 40, 9)]
    assert merged(blocks).equals(whole) and len(whole) == (2 * most if most == 3 else 17 + 40)
