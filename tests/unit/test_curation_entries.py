"""One answer a prompt, contaminated prompts dropped, and round-robin ranks over the scenarios of a cluster."""

import random

import numpy as np
import pyarrow as pa
import pytest

from engine.contract.curation import Curation, Decontaminate
from engine.curation.entries import entries
from engine.curation.ngram_index import HOLDOUT, PROTECTED, build_index, overlaps, protected
from engine.curation.samples import best
from engine.curation.select import round_robin_rank

NO_HOLDOUT = build_index(PROTECTED.empty_table(), Decontaminate())


def candidates(*rows):
    """Each is (answer_id, prompt_id, pool, confidence, agreement, answer), with the prompt's id as its text."""
    names = ("answer_id", "prompt_id", "pool", "confidence", "agreement", "answer")
    made = [dict(zip(names, row, strict=True)) for row in rows]
    more = {"layer": "core", "difficulty": "easy", "task_unit": "order"}
    return pa.Table.from_pylist([row | more | {"text": f"text of {row['prompt_id']}"} for row in made])


def dispositions(rows, section=None):
    """Return answer_id -> (dropped_by, duplicate_of)."""
    found = best(entries(rows, NO_HOLDOUT, section or Curation()))
    return {row["answer_id"]: (row["dropped_by"], row["duplicate_of"]) for row in found.to_pylist()}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0.9, 0.2, "long answer"), (0.8, 0.9, "x")),
        ((0.9, 0.5, "long answer"), (0.9, 0.4, "x")),
        ((0.9, 0.5, "short"), (0.9, 0.5, "longer")),
        ((0.1, 0.5, "long answer"), (None, 0.9, "x")),
        ((0.9, 0.5, "same"), (0.9, 0.5, "same")),
    ],
)
def test_best_sample_is_the_surest_then_agreed_then_shortest_then_first_by_id(one, other):
    rows = candidates(("a", "p", "train", *one), ("b", "p", "train", *other))
    assert dispositions(rows) == {"a": ("", ""), "b": ("sample", "a")}


def test_answer_of_another_pool_is_out_and_no_winner():
    rows = candidates(("a", "p", "review", 1.0, 1.0, "x"), ("b", "p", "train", 0.1, 0.1, "x"), ("c", "q", "hard", 1.0, 1.0, "x"))
    assert dispositions(rows) == {"a": ("pool", ""), "b": ("", ""), "c": ("pool", "")}


def test_contaminated_prompt_is_out_with_the_holdout_prompt_and_the_share():
    mail = "please send eight blue hand mirrors to the usual address in Oxford"
    holdout = pa.table({"prompt_id": ["h2", "h1"], "text": ["nothing alike in here at all, really nothing", mail]})
    section = Decontaminate(ngram=4, overlap=0.5)
    texts = [mail + " now", mail.upper(), "please send eight blue lamps to my new address in the far north", "short"]
    found = overlaps(texts, build_index(protected(holdout, HOLDOUT), section), section)
    assert [text for text, hit in found.items() if hit.similarity >= 0.5] == texts[:2]
    assert found[texts[1]] == (HOLDOUT, "h1", 1.0)
    assert found[texts[0]] == (HOLDOUT, "h1", 1.0)  # the whole of it is in the longer text
    assert found[texts[2]].similarity == pytest.approx(1 / 9)  # below the limit, but the report can name it


def test_contaminated_rows_are_marked_and_other_samples_lose_to_the_best():
    rows = candidates(("a", "p", "train", 0.9, 1.0, "x"), ("b", "p", "train", 0.8, 1.0, "x"))
    section = Curation(decontaminate=Decontaminate(ngram=2, overlap=0.5))
    index = build_index(protected(pa.table({"prompt_id": ["h"], "text": ["text of p"]}), HOLDOUT), section.decontaminate)
    found = best(entries(rows, index, section)).to_pylist()
    marks = [(row["dropped_by"], row["duplicate_of"], row["similarity"]) for row in found]
    assert marks == [("contaminated", "h", 1.0), ("sample", "a", None)]


@pytest.mark.parametrize("seed", range(3))
def test_dispositions_do_not_depend_on_the_order_of_the_input(seed):
    rng = random.Random(seed)
    pools, sure = ["train", "refusal", "failure"], [0.5, 0.9, None]
    rows = [(f"a{n:02d}", f"p{n % 9}", rng.choice(pools), rng.choice(sure), 1.0, "x" * (n % 3)) for n in range(40)]
    expected = dispositions(candidates(*rows))
    assert dispositions(candidates(*rng.sample(rows, 40))) == expected
    assert sum(outcome == ("", "") for outcome in expected.values()) <= 9


def test_rows_of_a_cluster_are_ranked_round_robin_over_scenarios_rarest_first():
    cluster = np.array([0, 0, 0, 0, 0, 1])
    closeness = np.array([0.9, 0.8, 0.7, 0.2, 0.1, 0.5])
    scenario = ["plain", "plain", "plain", "rare", "plain", "plain"]
    assert round_robin_rank(cluster, closeness, scenario).tolist() == [1, 2, 3, 0, 4, 0]


def test_contract_refuses_a_quota_without_embeddings():
    with pytest.raises(ValueError, match="per_cluster: needs clusters"):
        Curation.model_validate({"semantic": None, "pick": {"per_cluster": 3}})
