"""The model of the evidence: planted numbers of known worth, groups, few items, and what is said about the choice."""

import numpy as np
import pytest

from engine.contract.evidence import Evidence
from engine.contract.judges import Calibrate
from engine.evidence.features import kind_of
from engine.evidence.fusion import Items, cross_fit, folds, fuse, usable
from engine.evidence.worth import kinds
from engine.stats.discrimination import roc_auc

GOLD = [{"input": str(n), "answer": "a", "label": "right" if n % 2 else "wrong"} for n in range(8)]
SECTION, CALIBRATE = Evidence(), Calibrate.model_validate({"gold": GOLD, "folds": 2})  # each fold chooses a form of its own


def planted(seed: int, count: int = 300, *, harm: float = 0.0) -> Items:
    """Return items with two numbers that tell something, one that is noise, and one that misleads where it is known best.

    The last is right about the items of half of the groups, and wrong about the others, so that no weight holds everywhere.
    """
    rng = np.random.default_rng(seed)
    right = rng.uniform(size=count) < 0.7
    groups = np.arange(count) // 3
    worth = np.where(right, 1.0, -1.0)
    turned = np.where(rng.uniform(size=groups.max() + 1) < 0.5, 1.0, -1.0)[groups]
    numbers = {
        "logprob": worth + rng.normal(size=count),
        "agreement": worth + rng.normal(0, 1.5, size=count),
        "length": rng.normal(size=count),
        "distance": rng.normal(size=count) + harm * worth * turned,
    }
    return Items(tuple(numbers), np.stack([*numbers.values()], axis=1), right, np.ones(count, bool), groups.astype(str))


def test_informative_evidence_is_worth_something_and_noise_is_not() -> None:
    items = planted(0, harm=3.0)
    used = fuse(items, SECTION, CALIBRATE)
    found = {kind.name: kind for kind in kinds(items, usable(items), list(folds(items, 5)), used.model.features, {})}
    assert used.why.startswith("all 4 numbers")
    for name in ("logprob", "agreement"):
        assert found[name].worth and found[name].worth.low > 0 and found[name].auc.low > 0.5
    for name in ("length", "distance"):
        assert found[name].worth and found[name].worth.low <= 0 and abs(found[name].auc.value - 0.5) < 0.12
    assert abs(used.model.weights[2]) < 0.3 > abs(used.model.weights[3])


def test_evidence_that_harms_does_not_spoil_the_confidence() -> None:
    items = planted(0, harm=3.0)
    with_all, without = cross_fit(items, SECTION, CALIBRATE), cross_fit(items.only(items.names[:2]), SECTION, CALIBRATE)
    both = [roc_auc(each.scores, items.right) for each in (with_all, without)]
    assert both[0] and both[1] and both[0].value > both[1].value - 0.02


def test_fused_evidence_is_better_than_the_best_alone_and_is_calibrated() -> None:
    items = planted(1, 600)
    crossed = cross_fit(items, SECTION, CALIBRATE)
    alone = roc_auc(items.x[:, 0], items.right)
    fused = roc_auc(crossed.scores, items.right)
    assert fused and alone and fused.value > alone.value + 0.02
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
        inside = (crossed.confidence >= low) & (crossed.confidence < high)
        assert abs(items.right[inside].mean() - crossed.confidence[inside].mean()) < 0.1


def test_few_items_get_one_number_and_the_record_says_why() -> None:
    items = planted(0, 24)
    used = fuse(items, SECTION, CALIBRATE)
    assert len(used.model.features) == 1 and "are too few for 4 numbers (judges.evidence.per_feature: 5)" in used.why
    assert used.model.features[0] in ("logprob", "agreement")


def test_one_number_is_kept_where_the_others_add_nothing() -> None:
    items = planted(3)
    x = items.x.copy()
    x[:, 1] = np.random.default_rng(0).normal(size=len(x))
    used = fuse(items._replace(x=x), SECTION, CALIBRATE)
    assert used.model.features == ("logprob",) and "not lower by a standard error" in used.why
    alone = fuse(items.only(["logprob"]), SECTION, CALIBRATE)
    assert alone.why == "logprob alone: no other evidence differs among the labelled items"


def test_confidence_rises_with_a_single_number_whichever_way_it_points() -> None:
    items = planted(0).only(["logprob"])
    used = fuse(items._replace(x=-items.x), SECTION, CALIBRATE)
    falling = used.confidence(np.linspace(-3, 3, 7)[:, None])
    assert (np.diff(falling) < 0).all() and 0 < falling[-1] < falling[0] < 1


def test_items_of_one_group_are_held_out_together() -> None:
    items = planted(0, 60)
    moved = items.x.copy()
    moved[0] += 5.0
    one, other = cross_fit(items, SECTION, CALIBRATE), cross_fit(items._replace(x=moved), SECTION, CALIBRATE)
    assert (one.scores[1:3] == other.scores[1:3]).all() and (one.scores != other.scores).any()


def test_one_group_of_a_label_leaves_no_folds() -> None:
    items = planted(0, 30)
    alone = items._replace(right=items.groups == "0", groups=items.groups)
    assert cross_fit(alone, SECTION, CALIBRATE).folds == 1


def test_isotonic_curve_is_possible() -> None:
    items = planted(0, 200)
    crossed = cross_fit(items, SECTION, Calibrate.model_validate({"gold": GOLD, "method": "isotonic", "folds": 2}))
    assert 0 < crossed.confidence.min() < crossed.confidence.max() < 1


def test_unknown_and_constant_numbers_are_named() -> None:
    items = planted(0, 40)
    x = items.x.copy()
    x[:25, 0], x[:, 1] = np.nan, 0.5
    assert usable(items._replace(x=x)) == {
        "logprob": "known of 15 of 40 labelled items",
        "agreement": "the same for every labelled item",
        "length": "",
        "distance": "",
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    [("logprob", "logprob"), ("field_logprobs:a", "field_logprobs"), ("rubric:j:d", "rubric:j"), ("reader:r", "reader:r")],
)
def test_numbers_belong_to_kinds(name: str, kind: str) -> None:
    assert kind_of(name) == kind
