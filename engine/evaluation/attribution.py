"""What each bucket of the examples is worth: effects with intervals that are corrected for the number of buckets.

Every set of examples is learnt by several trainings on draws of their own, and each of them answers every prompt of the holdout, so
an effect varies with both (`engine.stats.crossed`); the variance between trainings is pooled over all sets. Holm (Scandinavian
Journal of Statistics 6, 1979): the bucket with the i-th smallest of K p-values is accused or praised if this and all smaller ones
are below alpha over K - i + 1; its interval is the one of that level, which then excludes 0. All others have the interval of level
alpha / K, so that all upper ends hold together (Bonferroni), and a bucket of which more than `worth` can be ruled out adds nothing.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.evaluation.buckets import Bucket, TrainingSet
from engine.records.attribution import BucketEffect, Control, Verdict
from engine.records.estimate import Estimate
from engine.stats.crossed import Crossed, OfSeeds, crossed_mean, pooled
from engine.stats.intervals import Array
from engine.stats.multiple import holm_steps


class Trained(NamedTuple):
    """What the trainings of each set gave on the holdout."""

    exact: Mapping[TrainingSet, Array]
    """Set -> (seeds, prompts), 1 = right."""
    clusters: Sequence[object]
    """(prompts,) labels; prompts of one label are not independent."""
    level: float
    worth: float

    @property
    def of_seeds(self) -> OfSeeds | None:
        """The variance of a set's mean between trainings; None with one seed."""
        return pooled(list(self.exact.values()))

    def mean(self, trained: TrainingSet) -> Estimate | None:
        """Return the exact match of a set."""
        measured = crossed_mean(self.exact[trained], self.clusters, self.of_seeds)
        return measured and measured.interval(self.level)

    def difference(self, with_it: TrainingSet, without: TrainingSet) -> Crossed | None:
        """Return the paired difference of two sets; None if nothing is known of the variance between trainings."""
        one = self.of_seeds
        if one is None:
            return None
        both = OfSeeds(2 * one.variance, one.freedom)  # of a difference: the trainings of both sets vary
        return crossed_mean(self.exact[with_it] - self.exact[without], self.clusters, both)


def effects(found: Sequence[Bucket], trained: Trained) -> list[BucketEffect]:
    """Return the effect of every bucket, in the order of `found`, and a verdict on each."""
    measured = [
        trained.difference(bucket.with_it, bucket.without) if bucket.with_it and bucket.without else None for bucket in found
    ]
    steps = iter(holm_steps([each.p_value for each in measured if each], 1 - trained.level))
    result = []
    for bucket, each in zip(found, measured, strict=True):
        effect = BucketEffect(kind=bucket.kind, value=bucket.value, what=bucket.what, examples=bucket.examples)
        if not bucket.without or not bucket.with_it:
            result.append(effect.model_copy(update={"left_out": bucket.left_out, "verdict": "left_out"}))
            continue
        changes: dict[str, object] = {"size": bucket.without.size, "exact_match": trained.mean(bucket.without)}
        if each:
            error, is_shown = next(steps)
            level = 1 - error
            interval = each.interval(level)
            changes |= {"effect": interval, "level": round(level, 6), "p_value": round(each.p_value, 9)}
            changes["verdict"] = _verdict(interval, trained.worth, is_shown=is_shown)
        result.append(effect.model_copy(update=changes))
    return result


def controls(found: Sequence[Bucket], trained: Trained) -> list[Control]:
    """Return the sets that hold examples of all buckets, smallest first."""
    sets = {each for bucket in found for each in (bucket.with_it, bucket.without) if each and each.name.startswith("all ")}
    return [Control(size=each.size, exact_match=trained.mean(each)) for each in sorted(sets, key=lambda each: each.size)]


def _verdict(effect: Estimate, worth: float, *, is_shown: bool) -> Verdict:
    if is_shown and effect.value:
        return "helps" if effect.value > 0 else "hurts"
    return "adds_nothing" if effect.high < worth else "unclear"
