"""Buckets of the training examples, and the training sets that show what each is worth: all examples but those of the bucket.

    teacher         who wrote the answer
    pool            train, hard, refusal ...
    tier            confidence tier of the answer, 0 = surest
    synthesis       how the prompt was written: by which entry of `prompts.synthesize`; prompts of a source are no bucket
    contrastive     boundary material that is made of failed answers: correction, contrast, refusal, ask, rewrite; and `swap`, which
                    is made of other examples (`curation.swaps`)
    target          a part that the student learns before the final answer: rationale, limits
    representation  the form in which it learns the answer: compact JSON in the order of the schema, or as the teacher wrote it

A bucket of the first five is left out, and the rest is compared with as many examples of all buckets. Sizes are a few shares
(SHARES), so that few controls serve all buckets and a large bucket does not shrink the trainings of the others. Each seed draws its
own examples, or a draw that happens to be a good one would look like an effect; within a seed all draws are by the same hash, so
that two sets share as many examples as they can. A part of the target and a representation are changed, not left out:
the same examples are learnt with and without it (`engine.evaluation.variants`).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from engine.evaluation.variants import VARIANTS
from engine.rows import content_id

SHARES = (0.875, 0.75, 0.5, 0.25)
"""Sizes of the training sets as shares of all examples; a bucket that leaves fewer than the last is not left out."""
SMALLEST = 0.01
"""Share of the examples below which a bucket is too small for its effect to be seen."""
KINDS = {
    "teacher": "answers of the teacher {}",
    "pool": "answers of the pool {}",
    "tier": "answers of the confidence tier {}",
    "synthesis": "prompts that {} wrote",
    "contrastive": "examples of the kind {}, made of failed answers",
}
SWAPS = "examples with other quoted values, made of other examples (curation.swaps)"


class ExampleFacts(NamedTuple):
    """What the buckets read of one example."""

    example_id: str
    teacher: str
    pool: str
    tier: int | None
    synthesis: str
    """Name of the entry of `prompts.synthesize`; "" for a prompt of a source."""
    contrastive: str
    """Kind of an example that is made of a failed answer or of another example; "" for an answer."""
    changed: frozenset[str] = frozenset()
    """VARIANTS in which it has another target."""

    def value(self, kind: str) -> str:
        """Return the bucket of the kind that it is in, "" if it is in none."""
        value = getattr(self, kind)
        return "" if value is None else str(value)


class TrainingSet(NamedTuple):
    """What one set of trainings learns, one for each seed."""

    name: str
    variant: str
    """One of VARIANTS, "" = the examples as they are."""
    draws: tuple[tuple[str, ...], ...]
    """Seed -> sorted ids of its examples."""
    is_whole: bool
    """Whether there is nothing to draw, so that every seed learns the same."""

    @property
    def size(self) -> int:
        """Examples of each training."""
        return len(self.draws[0])

    def digest(self, seed: int) -> str:
        """Hash of what the training of a seed learns."""
        return content_id(self.variant, *self.draws[seed])


class Bucket(NamedTuple):
    """A bucket, the trainings that differ by it, or the reason why there are none."""

    kind: str
    value: str
    what: str
    examples: int
    left_out: str = ""
    with_it: TrainingSet | None = None
    without: TrainingSet | None = None

    @property
    def name(self) -> str:
        """Kind and value."""
        return f"{self.kind} {self.value}"


def buckets(facts: Iterable[ExampleFacts], *, seeds: int) -> list[Bucket]:
    """Return every bucket of the examples, those that are left out with the reason."""
    every = sorted(facts)
    orders = [sorted(every, key=lambda each: content_id("bucket", seed, each.example_id)) for seed in range(seeds)]
    return [*(_left_out(orders, *bucket) for bucket in _found(every)), *filter(None, (_changed(orders, name) for name in VARIANTS))]


def training_sets(found: Iterable[Bucket]) -> list[TrainingSet]:
    """Return the distinct training sets of the buckets, controls first."""
    pairs = [(bucket.with_it, bucket.without) for bucket in found]
    every = [each for pair in pairs for each in pair if each]
    controls = [each for each in every if each.name.startswith("all ")]
    return list(dict.fromkeys([*controls, *every]))


def _found(every: Sequence[ExampleFacts]) -> Iterator[tuple[str, str]]:
    for kind in KINDS:
        values = sorted({each.value(kind) for each in every} - {""})
        yield from ((kind, value) for value in values)


def _left_out(orders: Sequence[Sequence[ExampleFacts]], kind: str, value: str) -> Bucket:
    inside = {each.example_id for each in orders[0] if each.value(kind) == value}
    rests = [[each for each in order if each.example_id not in inside] for order in orders]
    total, rest = len(orders[0]), len(rests[0])
    what = SWAPS if (kind, value) == ("contrastive", "swap") else KINDS[kind].format(value)
    bucket = Bucket(kind, value, what, total - rest)
    size = next((int(share * total) for share in SHARES if int(share * total) <= rest), 0)
    if not rest:
        return bucket._replace(left_out="all examples are in it")
    if not size:
        return bucket._replace(left_out=f"only {rest} of {total} examples are left without it")
    if bucket.examples < SMALLEST * total:
        return bucket._replace(left_out=f"{bucket.examples} of {total} examples are too few")
    control, without = _drawn(f"all {size}", orders, size), _drawn(f"without {bucket.name}", rests, size)
    if control.draws == without.draws:
        return bucket._replace(left_out=f"none of its examples is among the {size} that are drawn")
    return bucket._replace(with_it=control, without=without)


def _changed(orders: Sequence[Sequence[ExampleFacts]], name: str) -> Bucket | None:
    """Return the bucket of a variant; None if no example would have another target."""
    variant, total = VARIANTS[name], len(orders[0])
    inside = sum(name in each.changed for each in orders[0])
    bucket = Bucket(variant.kind, variant.value, variant.what, inside)
    if not inside:
        return None
    if inside < SMALLEST * total:
        return bucket._replace(left_out=f"{inside} of {total} examples are too few")
    control = _drawn(f"all {total}", orders, total)
    changed = control._replace(name=f"{'with' if variant.adds else 'without'} {bucket.name}", variant=name)
    return bucket._replace(with_it=changed, without=control) if variant.adds else bucket._replace(with_it=control, without=changed)


def _drawn(name: str, orders: Sequence[Sequence[ExampleFacts]], size: int) -> TrainingSet:
    draws = tuple(tuple(sorted(each.example_id for each in order[:size])) for order in orders)
    return TrainingSet(name, "", draws, is_whole=size == len(orders[0]))
