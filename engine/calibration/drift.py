"""What the answers of a run say of its judge: whether it agrees with the rules, and whether it drifts, in a run and between runs.

The unit is a prompt: its answers are alike, and count as their mean. Distances of means have the interval of Welch (1947); they
tell that scores moved, by the judge or by the answers. All of this comes after the judge has decided: it is reported, not enforced.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.calibration.audit import level_for, verdict
from engine.contract.judges import Audit
from engine.rows import content_id
from engine.stats import intervals
from engine.stats.intervals import Estimate
from engine.storage.shards import Folder

COLUMNS = ["prompt_id", "finish_reason", "score", "checks"]
PARTS = 1000  # of the histogram of scores
MOST = 100  # batches that are told apart


class Sums(NamedTuple):
    """Scores of some prompts."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def less(self, other: "Sums") -> "Sums":
        """Return what is left without `other`."""
        return Sums._make(mine - theirs for mine, theirs in zip(self, other, strict=True))

    def plus(self, other: "Sums") -> "Sums":
        """Return both together."""
        return Sums._make(mine + theirs for mine, theirs in zip(self, other, strict=True))

    @property
    def moments(self) -> tuple[int, float, float]:
        """Count, mean and variance."""
        mean = self.total / self.count
        return self.count, mean, max(0.0, self.squares - self.count * mean**2) / max(1, self.count - 1)


@dataclass
class Scores:
    """The scores of a run."""

    batches: list[Sums] = field(default_factory=list)
    """Of answers that passed every check, one a shard: what travelled together."""
    passed: np.ndarray = field(default_factory=lambda: np.zeros(PARTS))
    failed: np.ndarray = field(default_factory=lambda: np.zeros(PARTS))
    """How many answers with so high a score passed every check, and failed one."""

    @property
    def all(self) -> Sums:
        """All batches together."""
        found = Sums()
        for batch in self.batches:
            found = found.plus(batch)
        return found


def scores(pieces: Iterable[pa.Table]) -> Scores:
    """Return the scores in the shards of a run; one is in memory at a time. Each has COLUMNS."""
    found = Scores()
    for piece in pieces:
        marked = piece.filter(pc.and_(pc.is_valid(piece["score"]), pc.equal(piece["finish_reason"], "stop")))
        sound = np.array([all(check["passed"] for check in checks or ()) for checks in marked["checks"].to_pylist()], dtype=bool)
        values = marked["score"].to_numpy().astype(float)
        for counts, some in ((found.passed, sound), (found.failed, ~sound)):
            np.add.at(counts, np.clip(np.round(values[some] * (PARTS - 1)).astype(int), 0, PARTS - 1), 1)
        means = (
            marked.filter(pa.array(sound, pa.bool_())).group_by("prompt_id").aggregate([("score", "mean")])["score_mean"].to_numpy()
        )
        found.batches.append(Sums(len(means), float(means.sum()), float((means**2).sum())))
    return found


def audit(found: Scores, section: Audit, before: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the verdicts on a run's answers: rules, batches, runs. `before` is what the last run of this judge kept."""
    runs = verdict("runs", between_runs(found, before), section.limits.runs, why="no earlier run with this judge, or a small one")
    if before and runs["value"] is not None:
        runs["why"] = f"since {before['run']}"
    return [
        verdict("rules", rules(found), None, why="too few marked answers failed a check"),
        verdict("batches", between_batches(found.batches), section.limits.batches, why="too few batches"),
        runs,
    ]


def rules(found: Scores) -> Estimate:
    """Return how often an answer that passed the checks has a higher score than one that failed; 0.5: the judge sees nothing of it.

    The area under the ROC curve with the interval of Hanley and McNeil (1982), ties half.
    """
    passed, failed = found.passed.sum(), found.failed.sum()
    if min(passed, failed) < intervals.FEWEST:
        return None
    below = np.cumsum(found.failed) - found.failed / 2
    area = float((found.passed * below).sum() / (passed * failed))
    one, other = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (passed - 1) * (one - area**2) + (failed - 1) * (other - area**2)) / (passed * failed)
    return intervals.around(area, variance, int(passed + failed), low=0.0, high=1.0)


def between_batches(batches: Sequence[Sums]) -> Estimate:
    """Return the distance of the batch that lies furthest from all others, with an interval that holds for all batches together."""
    width = -(-len(batches) // MOST)
    joined = [_sum(batches[start : start + width]) for start in range(0, len(batches), width or 1)]
    large, whole = [one for one in joined if one.count >= intervals.FEWEST], _sum(joined)
    if len(large) < 2:
        return None
    level = level_for(len(large))
    gaps = [intervals.of_moments(one.moments, whole.less(one).moments, level=level) for one in large]
    return max((one for one in gaps if one), key=lambda one: max(one["low"], -one["high"]))


def between_runs(found: Scores, before: dict[str, Any] | None) -> Estimate:
    """Return the mean score of this run less that of the one before."""
    if before is None or min(found.all.count, before["scores"][0]) < intervals.FEWEST:
        return None
    return intervals.of_moments(found.all.moments, Sums(*before["scores"]).moments)


def last(ledger: Folder, judge: str, run: str) -> dict[str, Any] | None:
    """Return what the latest other run with the judge of this hash kept in the ledger that runs share."""
    mine = _name(judge, run)
    names = [name for name in ledger.files(deep=False) if name.startswith(f"scores-{judge}-") and name != mine]
    return max((json.loads(ledger.read(name)) for name in names), key=lambda one: one["created"], default=None)


def keep(ledger: Folder, judge: str, run: str, found: Scores, created: float) -> None:
    """Leave a run's scores for the next run."""
    kept = {"judge": judge, "run": run, "created": created, "scores": found.all}
    ledger.write(_name(judge, run), json.dumps(kept).encode())


def _name(judge: str, run: str) -> str:
    return f"scores-{judge}-{content_id(run)}.json"


def _sum(batches: Sequence[Sums]) -> Sums:
    return Scores(list(batches)).all
