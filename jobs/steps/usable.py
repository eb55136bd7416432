"""Whether finished candidates are of use to later jobs. Imports no Ray: it is asked of finished jobs, too."""

from engine.errors import NoUsableAnswer
from engine.grading import failures
from engine.inference.spending import ACCEPTED
from engine.records.candidates import CandidatesMetrics
from engine.rows import POOLS
from engine.runs.job import JobContext


def require_usable(context: JobContext) -> None:
    """Check that the finished candidates hold an answer which can become an example, by itself or after a person's review.

    Raises:
        NoUsableAnswer: they hold none.
    """
    artifact = context.artifact("candidates")
    pools = {pool: artifact.record.row_counts.rows_out.get(pool, 0) for pool in POOLS}
    total = sum(pools.values())
    if not total or any(pools[pool] for pool in ("review", *ACCEPTED, *context.contract.curation.pick.pools)):
        return
    found = " + ".join(f"{rows} {pool}" for pool, rows in pools.items() if rows)
    lines = failures.as_lines(artifact.metrics(CandidatesMetrics).failures, total)
    raise NoUsableAnswer(
        "\n  ".join([f"{artifact.folder}: none of {total} answers is usable: {found}. No other job was started.", *lines])
        + "\nMend the cause and use a new run folder: what was answered is kept in this one, and is not asked again here."
    )
