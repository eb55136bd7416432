"""kill -9 of driver, teacher, judge and node: the rows are those of an unbroken run, and only requests in flight are paid twice.

The short form kills one of each kind; `make chaos` kills 20 over 2,000 prompts x 2 samples. The teacher is a server, which
counts its requests: that is what was paid.
"""

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.rows import CANDIDATE
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from engine.storage.shards import hex_digest, rows_digest
from tests.line import kills_world as world

KILLED = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # pipes, sockets
pytestmark = [pytest.mark.timeout(2400), KILLED]
SIZES = [
    pytest.param((200, 4, 0.2), id="short"),
    pytest.param((2_000, 20, 0.2), id="long", marks=pytest.mark.chaos),
]  # prompts, kills, seconds of an answer


@dataclass
class Outcome:
    """A run that was killed again and again, and one that was not."""

    kills: list[world.Kill]
    unbroken: pa.Table
    broken: pa.Table
    record: dict[str, Any]
    recorded: list[str]
    """Ids in the ledger of answers, with repetitions."""
    bill: dict[str, Counter[str]]


@pytest.fixture(scope="module", params=SIZES)
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    prompts, kills, delay = request.param
    folder = tmp_path_factory.mktemp("kills")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(world.ROOT), os.environ.get("PYTHONPATH")])))
        server = world.Server()
        site = world.Site(folder, server, prompts=prompts)
        try:
            yield run_both(site, world.plan(kills, site.answers, seed=11), delay)
        finally:
            site.close()
            server.shutdown()


def run_both(site: world.Site, kills: list[world.Kill], delay: float) -> Outcome:
    """Run once without and once with kills, each with a ledger of its own."""
    unbroken, run = site.unbroken(site.folder / "unbroken"), site.folder / "broken"
    site.prepare(run)
    site.server.begin(delay=delay)
    site.survive(run, kills, random.Random(12))
    recorded = [key for path in run.glob("ledger/answers/**/*.parquet") for key in ids(pq.read_table(path, columns=["answer_id"]))]
    broken = load_artifact(Folder(str(run / "candidates")))
    assert broken
    outcome = Outcome(kills, unbroken, broken.read("candidates", CANDIDATE), broken.record, recorded, site.server.bill)
    print(json.dumps(figures(outcome)))
    return outcome


def ids(rows: pa.Table) -> list[str]:
    return rows["answer_id"].to_pylist()


def figures(outcome: Outcome) -> dict[str, object]:
    """Return the numbers that `make chaos` prints."""
    expected, rows, bill = ids(outcome.unbroken), ids(outcome.broken), outcome.bill
    return {
        "kills": dict(Counter(kill.kind for kill in outcome.kills)),
        "rows": len(rows),
        "lost": len(set(expected) - set(rows)),
        "double": len(rows) - len(set(rows)),
        **{f"{name}: requests": counts.total() for name, counts in bill.items()},
        **{f"{name}: paid twice": counts.total() - len(counts) for name, counts in bill.items()},
        "teacher: most in flight at the kills": sum(world.IN_FLIGHT[kill.kind] for kill in outcome.kills),
        "recorded twice": len(outcome.recorded) - len(set(outcome.recorded)),
    }


def test_rows_after_kills_are_those_of_an_unbroken_run(outcome: Outcome) -> None:
    before, after = sorted(ids(outcome.unbroken)), sorted(ids(outcome.broken))
    assert after == before and len(set(after)) == len(after)
    assert outcome.record.tables["candidates"].digest == hex_digest(rows_digest(outcome.unbroken))  # every column
    assert outcome.record.row_counts.rows_in == len(before)


def test_every_request_for_an_answer_becomes_a_row(outcome: Outcome) -> None:
    assert len(outcome.bill["teacher"]) == len(ids(outcome.broken)) == len(set(outcome.recorded))


def test_only_what_was_in_flight_is_paid_twice(outcome: Outcome) -> None:
    twice = {name: counts.total() - len(counts) for name, counts in outcome.bill.items()}
    assert twice["teacher"] <= sum(world.IN_FLIGHT[kill.kind] for kill in outcome.kills)
    judged = sum(kill.kind != "teacher" for kill in outcome.kills) * world.JUDGED
    assert twice["judge"] <= judged
