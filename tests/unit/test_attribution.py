"""Planted buckets, and a stand-in for a student: what hurts, helps or adds nothing is named with an interval, nothing else is."""

import numpy as np

from engine.evaluation.attribution import Trained, controls, effects
from engine.evaluation.buckets import ExampleFacts, buckets, training_sets

COUNT, KINDS, PROMPTS, SEEDS, WORTH = 1200, 8, 480, 5, 0.04
ONLY_PARAPHRASED, MISTAUGHT = 5, 3


def world(seed):
    """Examples as (facts, kind of prompt, whether the answer is right).

    Teacher b answers the kind MISTAUGHT wrong, and nothing else; answers of the pool `hard` are wrong in half of all cases; only
    the synthesis `paraphrase` writes prompts of the kind ONLY_PARAPHRASED; `evolve` writes more of what is there. A tier does
    nothing: each has as many examples of every sort as the others.
    """
    rng, found = np.random.default_rng(seed), []
    for number, (kind, by_b, is_hard, is_evolved, is_lucky) in enumerate(zip(*rng.random((5, COUNT)), strict=True)):
        kind, teacher, pool = int(kind * KINDS), "b" if by_b < 0.5 else "a", "hard" if is_hard < 0.2 else "train"
        synthesis = "paraphrase" if kind == ONLY_PARAPHRASED else "evolve" if is_evolved < 0.2 else ""
        is_right = not (teacher == "b" and kind == MISTAUGHT) and not (pool == "hard" and is_lucky < 0.5)
        found.append((ExampleFacts(f"{seed}-{number}", teacher, pool, None, synthesis, ""), kind, is_right))
    found.sort(key=lambda each: (each[2], each[1], each[0].teacher, each[0].pool, each[0].synthesis))
    return [(facts._replace(tier=rank % 3), kind, is_right) for rank, (facts, kind, is_right) in enumerate(found)]


def learn(kinds, rights, rng, hardness):
    """A stand-in for a student: it answers a prompt right as far as a sample of the examples of its kind did; (prompts,) of 0, 1.

    A prompt of a kind that it never saw is right in one of ten cases. Hard prompts need a larger share of right examples.
    """
    drawn = rng.integers(len(kinds), size=len(kinds))
    votes = np.bincount(kinds[drawn], minlength=KINDS)
    right = np.bincount(kinds[drawn], weights=rights[drawn], minlength=KINDS)
    chance = np.where(votes > 0, (right - 0.5) / np.maximum(votes, 1), 0.1)
    return hardness < np.repeat(chance, PROMPTS // KINDS) + rng.normal(0, 0.02, PROMPTS)


def attributed(seed):
    examples = world(seed)
    rng = np.random.default_rng(1000 + seed)
    hardness = rng.random(PROMPTS)
    found = buckets((facts for facts, _, _ in examples), seeds=SEEDS)
    row_of = {facts.example_id: row for row, (facts, _, _) in enumerate(examples)}
    kinds, rights = (np.array([each[column] for each in examples]) for column in (1, 2))

    def trained_on(draw):
        rows = [row_of[name] for name in draw]
        return learn(kinds[rows], rights[rows].astype(float), rng, hardness)

    exact = {each: np.array([trained_on(draw) for draw in each.draws], dtype=np.float64) for each in training_sets(found)}
    clusters = [f"scenario {number // 2}" for number in range(PROMPTS)]
    trained = Trained(exact, clusters, level=0.95, worth=WORTH)
    return found, trained, {f"{each.kind} {each.value}": each for each in effects(found, trained)}


def test_planted_buckets_are_named_with_an_interval():
    found, trained, named = attributed(0)
    for name in ("teacher b", "pool hard"):
        assert named[name].verdict == "hurts" and named[name].effect.high < 0, name
    assert named["synthesis paraphrase"].verdict == "helps" and named["synthesis paraphrase"].effect.low > 0
    assert named["synthesis evolve"].verdict == "adds_nothing" and named["synthesis evolve"].effect.high < WORTH
    assert named["teacher b"].exact_match.n == SEEDS * PROMPTS
    assert all(0.95 <= each.level < 1 for each in named.values() if each.effect)
    sizes = [control.size for control in controls(found, trained)]
    assert sizes == sorted(set(sizes)) and {each.size for each in named.values() if each.size} == set(sizes)


def test_bucket_that_does_nothing_is_not_accused_over_20_seeds():
    verdicts = [attributed(seed)[2][f"tier {tier}"].verdict for seed in range(20) for tier in range(3)]
    assert "hurts" not in verdicts and verdicts.count("adds_nothing") > 30
    assert verdicts.count("helps") <= 2  # at 95 % one of 20 sets of buckets may have a name too many


def test_trainings_of_one_bucket_are_of_one_size_and_share_their_examples():
    found, _, _ = attributed(0)
    for bucket in found:
        if bucket.without:
            facts = {each.example_id: each for each, _, _ in world(0)}
            for mine, other in zip(map(set, bucket.with_it.draws), map(set, bucket.without.draws), strict=True):
                assert len(mine) == len(other) == bucket.without.size and len(mine & other) > 0.4 * len(mine)
                assert all(facts[name].value(bucket.kind) != bucket.value for name in other)
            assert len(set(bucket.without.draws)) == SEEDS  # each seed has a draw of its own


def test_buckets_that_cannot_be_left_out_say_why():
    facts = [ExampleFacts(str(number), "a", "train" if number else "hard", 0, "", "") for number in range(200)]
    left_out = {bucket.name: bucket.left_out for bucket in buckets(facts, seeds=2)}
    assert left_out["teacher a"] == "all examples are in it"
    assert left_out["pool hard"] == "1 of 200 examples are too few"
    assert left_out["pool train"] == "only 1 of 200 examples are left without it"
    assert not any(name.startswith(("target", "representation")) for name in left_out)  # nothing would change


def test_parts_of_the_target_are_changed_not_left_out():
    facts = [
        ExampleFacts(str(number), "a", "train", 0, "", "", frozenset({"limits"} if number % 2 else ())) for number in range(40)
    ]
    [limits] = [bucket for bucket in buckets(facts, seeds=2) if bucket.name == "target limits"]
    assert limits.examples == 20 and limits.with_it.variant == "limits" and limits.without.variant == ""
    assert limits.with_it.draws == limits.without.draws and limits.with_it.digest(0) != limits.without.digest(0)


def test_one_seed_accuses_nobody():
    found, trained, _ = attributed(0)
    one = trained._replace(exact={each: cells[:1] for each, cells in trained.exact.items()})
    assert {each.verdict for each in effects(found, one)} == {"unclear", "left_out"}
    assert all(each.effect is None for each in effects(found, one))
