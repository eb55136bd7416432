"""Drift of a judge, measured on the answers of a run: against the checks, between batches of a run, and between runs.

The unit is a prompt: the scores of its answers are averaged, because they are not independent. Differences of means have the
interval of Welch (1947). They show that scores moved, by the judge or by the answers. Drift is measured after the judge has
decided, so it is reported and enforces nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.calibration.audit import level_for, verdict
from engine.contract.judges import Audit
from engine.records.estimate import Estimate
from engine.records.judge import AuditProbe, JudgeScores
from engine.rows import content_id
from engine.stats.discrimination import roc_auc_of_histograms
from engine.stats.intervals import MIN_VALUES, Moments, difference_of_moments
from engine.storage.folder import Folder

COLUMNS = ["prompt_id", "finish_reason", "score", "checks"]
BINS = 1000  # of the histogram of scores
MAX_BATCHES = 100  # compared with each other; more are joined


class Sums(NamedTuple):
    """Sums over the mean scores of some prompts."""

    size: int = 0
    total: float = 0.0
    squares: float = 0.0

    def minus(self, other: "Sums") -> "Sums":
        """Return the sums of the prompts that are not in `other`."""
        return Sums(self.size - other.size, self.total - other.total, self.squares - other.squares)

    @property
    def moments(self) -> Moments:
        """Count, mean and variance."""
        mean = self.total / self.size
        return Moments(self.size, mean, max(0.0, self.squares - self.size * mean**2) / max(1, self.size - 1))


@dataclass
class RunScores:
    """The scores of a run."""

    batches: list[Sums] = field(default_factory=list)
    """Of answers that passed every check, one entry a shard: answers that were judged together."""
    passed: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    """Histogram of the scores of answers that passed every check, (BINS,)."""
    failed: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    """Histogram of the scores of answers that failed a check, (BINS,)."""

    @property
    def all(self) -> Sums:
        """All batches together."""
        return _joined(self.batches)


def run_scores(shards: Iterable[pa.Table]) -> RunScores:
    """Return the scores in the shards of a run, each with COLUMNS; one shard is in memory at a time."""
    result = RunScores()
    for shard in shards:
        scored = shard.filter(pc.and_(pc.is_valid(shard["score"]), pc.equal(shard["finish_reason"], "stop")))
        sound = np.array([all(check["passed"] for check in checks or ()) for checks in scored["checks"].to_pylist()], dtype=bool)
        scores = scored["score"].to_numpy().astype(float)
        for histogram, mask in ((result.passed, sound), (result.failed, ~sound)):
            np.add.at(histogram, np.clip(np.round(scores[mask] * (BINS - 1)).astype(int), 0, BINS - 1), 1)
        by_prompt = scored.filter(pa.array(sound, pa.bool_())).group_by("prompt_id").aggregate([("score", "mean")])
        means = by_prompt["score_mean"].to_numpy()
        result.batches.append(Sums(len(means), float(means.sum()), float((means**2).sum())))
    return result


def drift_probes(scores: RunScores, section: Audit, previous: JudgeScores | None) -> list[AuditProbe]:
    """Return the probes rules, batches and runs; `previous` are the scores of the last run with this judge (`latest`)."""
    limits = section.limits
    # How often an answer that passed the checks has a higher score than one that failed; 0.5 is chance.
    agreement = roc_auc_of_histograms(scores.passed, scores.failed)
    runs = verdict("runs", between_runs(scores, previous), limits.runs, why="no earlier run with this judge, or a small one")
    if previous and runs.value is not None:
        runs = runs.model_copy(update={"why": f"since {previous.run}"})
    return [
        verdict("rules", agreement, None, why="too few scored answers failed a check"),
        verdict("batches", between_batches(scores.batches), limits.batches, why="too few batches"),
        runs,
    ]


def between_batches(batches: Sequence[Sums]) -> Estimate | None:
    """Return the difference of the batch that is furthest from all others, with an interval that holds for all batches together."""
    width = -(-len(batches) // MAX_BATCHES)
    groups = [_joined(batches[start : start + width]) for start in range(0, len(batches), width or 1)]
    large, total = [group for group in groups if group.size >= MIN_VALUES], _joined(groups)
    if len(large) < 2:
        return None
    level = level_for(len(large))
    differences = [difference_of_moments(group.moments, total.minus(group).moments, level=level) for group in large]
    return max(differences, key=lambda estimate: max(estimate.low, -estimate.high))


def between_runs(scores: RunScores, previous: JudgeScores | None) -> Estimate | None:
    """Return the mean score of this run less that of the previous one."""
    if previous is None or min(scores.all.size, previous.scores[0]) < MIN_VALUES:
        return None
    return difference_of_moments(scores.all.moments, Sums(*previous.scores).moments)


def latest(ledger: Folder, judge: str, run: str) -> JudgeScores | None:
    """Return the scores of the latest other run with the judge of the hash `judge`; None if there is none."""
    own = _file_name(judge, run)
    names = [name for name in ledger.files(deep=False) if name.startswith(f"scores-{judge}-") and name != own]
    return max((JudgeScores.model_validate_json(ledger.read(name)) for name in names), key=attrgetter("created"), default=None)


def save(ledger: Folder, scores: JudgeScores) -> None:
    """Write a run's scores for the next run; a run that is made again replaces its own."""
    ledger.write(_file_name(scores.judge, scores.run), scores.model_dump_json().encode())


def _file_name(judge: str, run: str) -> str:
    return f"scores-{judge}-{content_id(run)}.json"


def _joined(batches: Iterable[Sums]) -> Sums:
    columns = list(zip(*batches, strict=True)) or [(), (), ()]
    return Sums(*(sum(column) for column in columns))
