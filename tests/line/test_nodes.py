"""A run that is submitted as a job to nodes that share no disk, through its reports, while nodes are killed: it goes on by itself,
its rows are those of one process, and only what was in flight is paid twice.

The short form kills a node in `candidates` and one in `reports`; `make chaos` kills up to 20, in `dataset` and a training, too.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
import pytest

from engine.inference.bundled import packaged_weights
from engine.rows import CANDIDATE, EXAMPLE, HOLDOUT, PICKED, PREDICTION, PROMPT, STEP
from engine.storage.artifact import Artifact, load_artifact
from engine.storage.folder import Folder
from engine.storage.shards import hex_digest, rows_digest
from tests.line import dashboard
from tests.line import kills_world as world
from tests.line import nodes_order as order
from tests.line.nodes_order import HELD_OUT, STUDENT, TEACHERS, Size
from tests.line.nodes_world import WORK, Server, Site

KILL_AFTER = 40  # answers, in the short form
FURTHER = 10  # steps of a training between two kills: one whose nodes die before it gets further is given up
pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),  # pipes, sockets
]
SHORT = Size(prompts=80, steps=4, delay=0.1, kills={"candidates": 1, "reports": 1}, again="dataset")
MANY = {"candidates": 6, "dataset": 4, STUDENT: 8, "reports": 2}  # `reports` gives an engine up after its third death
LONG = Size(prompts=200, steps=120, delay=0.1, kills=MANY, semantic=True)
TABLES = {
    "dataset": {"examples": EXAMPLE, "picked": PICKED},
    STUDENT: {"steps": STEP},
    "reports": {"predictions": PREDICTION},
}


class Outcome(NamedTuple):
    site: Site
    bill: dict[str, Counter[str]]
    teachers: list[dict[str, int]]
    """Node -> teachers that it ran, whenever one was killed in `candidates`."""
    alone: Folder
    """What one machine made of the candidates, without kills."""
    candidates: pa.Table
    """As one process makes them."""
    predictions: dict[tuple[str, str], str]
    """(teacher, prompt) -> answer, as one process asks for them."""

    def both(self, job: str) -> tuple[Artifact, Artifact]:
        """Return the artifact of `job` that one machine made, and the one of the run."""
        return finished(self.alone, job), finished(self.site.run, job)


class Run:
    """A run while it is followed."""

    def __init__(self, site: Site) -> None:
        self.site, self.rng, self.teachers, self.reached = site, random.Random(3), list[dict[str, int]](), 0
        self.process = site.submit()

    def catch(self, job: str, word: str) -> None:
        """Kill the node of `left` while its requests with `word` are in flight."""
        server = self.site.server
        server.trap(word)
        self._wait(server.caught.is_set, f"left was not asked in {job}")
        self._kill(job, "left")
        server.free()

    def kill(self, job: str) -> None:
        """Kill nodes that work on `job`, again and again."""
        before = order.JOBS[order.JOBS.index(job) - 1]
        self._wait(lambda: self.site.is_done(before), f"{before} was not done")
        while self.site.kills[job] < self.site.size.kills[job] and not self.site.is_done(job):
            if busy := [name for name in TEACHERS if self.site.busy(name, WORK[job])]:
                self._kill(job, self.rng.choice(busy))
                self._pause(job)
            assert self.process.poll() is None, self.site.output()
            time.sleep(0.2)

    def _kill(self, job: str, name: str) -> None:
        if job == "candidates":
            self.teachers.append(self.site.teachers())
        self.site.kill(name, job)

    def _pause(self, job: str) -> None:
        """Wait until the job has got further."""
        if job == "candidates":
            self.answers(len(self.site.server.bill["teacher"]) + self.site.size.prompts * world.SAMPLES // 8)
        elif job == STUDENT:
            self.reached = max(self.reached, self._step())  # it begins again at its checkpoint, which may be far behind
            step = self.reached + FURTHER
            self._wait(lambda: self._step() >= step or self.site.is_done(job), "the training gets no further")
        else:
            time.sleep(self.rng.uniform(2, 12))

    def answers(self, count: int) -> None:
        """Wait until so many different answers were asked for."""
        self._wait(lambda: len(self.site.server.bill["teacher"]) >= count or self.site.is_done("candidates"), "no more answers")

    def _step(self) -> int:
        """Return the step that the training has reached."""
        run = self.site.run
        found = [name for name in run.files() if name.endswith("/snapshot.json")]  # not the one of Ray Train
        return max((json.loads(run.read(name))["step"] for name in found), default=0)

    def _wait(self, is_so: Any, what: str) -> None:
        self.site.wait(self.process, is_so, what)


@pytest.fixture(scope="module", params=[pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.chaos)])
def outcome(request: pytest.FixtureRequest, s3: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    folder = tmp_path_factory.mktemp("nodes")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**dashboard.environment(), "FSSPEC_S3": json.dumps(fsspec.config.conf["s3"])}.items():
            patch.setenv(name, value)
        patch.delenv("RAYLEIGH_MODELS", raising=False)
        server = Server()
        site = Site(folder, server, f"{s3}/{folder.name}", request.param)
        run = None
        try:
            server.begin(delay=site.size.delay)
            run = Run(site)
            follow(run)
            bill = {name: counts.copy() for name, counts in server.bill.items()}
            alone, prompts = site.again(folder / "again"), finished(site.run, "prompts")
            patch.setenv("HOME", str(folder / "alone"))
            made = site.candidates(prompts.read("prompts", PROMPT).sort_by("prompt_id"))
            predictions = site.predictions(prompts.read("holdout", HOLDOUT))
            yield Outcome(site, bill, run.teachers, alone, made, predictions)
        finally:
            server.free()
            if run:
                run.process.kill()
            site.end()
            server.shutdown()


def follow(run: Run) -> None:
    """Kill nodes of the run as its size says, and wait until it has succeeded."""
    run.answers(KILL_AFTER)
    if run.site.size is SHORT:
        run.catch("candidates", "Mail")
        run.catch("reports", HELD_OUT)
    else:
        for job in run.site.size.kills:
            run.kill(job)
    run.site.finish(run.process)
    print(dict(run.site.kills))


def finished(run: Folder, job: str) -> Artifact:
    artifact = load_artifact(run / job)
    assert artifact
    return artifact


def test_nodes_were_killed_in_each_job(outcome: Outcome) -> None:
    assert outcome.site.kills.keys() == outcome.site.size.kills.keys()


def test_each_teacher_ran_on_its_node(outcome: Outcome) -> None:
    assert outcome.teachers[0] == {"left": 1, "right": 1}
    assert all(count <= 1 for found in outcome.teachers for count in found.values())


def test_candidates_are_those_of_one_process(outcome: Outcome) -> None:
    made = finished(outcome.site.run, "candidates")
    assert made.table("candidates").digest == hex_digest(rows_digest(outcome.candidates))  # every column
    rows = made.read("candidates", CANDIDATE, ["answer_id", "teacher"])
    ids = rows["answer_id"].to_pylist()
    assert len(ids) == len(set(ids)) == world.SAMPLES * outcome.site.size.prompts
    assert set(rows["teacher"].to_pylist()) == set(TEACHERS)


def test_what_follows_from_them_is_what_one_machine_makes(outcome: Outcome) -> None:
    for job in (job for job in TABLES if order.JOBS.index(job) <= order.JOBS.index(outcome.site.size.again)):
        alone, made = outcome.both(job)
        for name, schema in TABLES[job].items():
            columns = [column for column in schema.names if column != "seconds"]
            rows = [each.read(name, schema, columns).to_pylist() for each in (alone, made)]
            assert rows[0] == rows[1] != [], (job, name)
        if job == STUDENT:
            weights = [each.folder.read("model/model.safetensors") for each in (alone, made)]
            assert weights[0] == weights[1]


def test_predictions_of_the_teachers_are_those_of_one_process(outcome: Outcome) -> None:
    rows = finished(outcome.site.run, "reports").read("predictions", PREDICTION).to_pylist()
    found = {(row["model"], row["prompt_id"]): row["answer"] for row in rows if row["role"] == "teacher"}
    assert found == outcome.predictions and len(found) == len(TEACHERS) * order.HOLDOUT
    assert not any(row["finish_reason"] == "error" for row in rows)  # no model is blamed for a node that died


def test_only_what_was_in_flight_is_paid_twice(outcome: Outcome) -> None:
    bill, kills = outcome.bill, outcome.site.kills
    twice = {name: counts.total() - len(counts) for name, counts in bill.items()}
    print({name: (twice[name], len(counts)) for name, counts in bill.items()})
    assert len(bill["teacher"]) == world.SAMPLES * outcome.site.size.prompts
    assert 0 < twice["teacher"] <= kills["candidates"] * world.IN_FLIGHT["node"]
    assert bill["judge"] and twice["judge"] <= kills["candidates"] * world.JUDGED
    assert bill["reports"] and twice["reports"] <= kills["reports"] * order.EVALUATED * len(TEACHERS)


def test_each_node_has_fetched_the_encoder_and_neither_head_nor_user_has_a_model(outcome: Outcome) -> None:
    size = (packaged_weights(order.ENCODER) / "model.safetensors").stat().st_size
    cached = {who: list(home.glob(".cache/rayleigh/weights/*/*.safetensors")) for who, home in outcome.site.homes.items()}
    fetched = {who: [path for path in found if path.stat().st_size == size] for who, found in cached.items()}
    assert [len(fetched[f"node-{number}-{name}"]) for number, name in enumerate(TEACHERS, 1)] == [1, 1]
    assert cached["head"] == cached["user"] == []
