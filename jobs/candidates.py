"""Prompts in, judged candidates out: one streaming plan in which teachers and judges are at work at the same time."""

from pathlib import Path

import pyarrow.compute as pc

from engine.contract.models import Model
from engine.fleet import stream
from engine.judges import flow as judges
from engine.judges.grader import Bar, calibration_of
from engine.lineage.artifact import Tally
from engine.lineage.job import Bench
from engine.models.locate import locate
from engine.models.trials import MARKS
from engine.rows import CANDIDATE, POOLS
from engine.shards import Table, iterate
from engine.teachers import flow as teachers
from engine.teachers.teacher import Desk
from jobs.progress import Meter
from jobs.tools import kit


def run(bench: Bench) -> Tally:
    """Every prompt goes to every teacher, every answer to exactly one pool."""
    prompts = bench.artifact("prompts")
    num_prompts = prompts.table("prompts").rows
    desks = _desks(bench, num_prompts)
    num_answers = num_prompts * sum(desk.section.sampling.n for desk in desks)
    bar = _bar(bench, num_answers)

    for ledger in (bench.ledger / "answers", bench.ledger / "verdicts"):
        (ledger / MARKS).remove()  # who died in an earlier run says nothing about this one
    rows = stream.read(prompts, "prompts", rows=bench.profile.teacher.batch)
    rows = teachers.answer(rows, desks)
    rows = judges.grade(rows, bar)
    meter = Meter(bench.job.name, total=num_answers, tell=bench.tell)
    written = stream.write(rows, bench.draft.folder / "candidates", CANDIDATE, label="pool", progress=meter)

    bench.draft.tables["candidates"] = written.table
    calibration = calibration_of(bar)
    bench.draft.facts = {"tokens_out": written.tokens, "calibration": calibration.model_dump() if calibration else None}
    pools = {pool: written.labels.get(pool, 0) for pool in POOLS}
    return Tally(num_answers, {**pools, **_spared(bench, written.table, desks)})


def _desks(bench: Bench, num_prompts: int) -> list[Desk]:
    return [
        Desk(
            section=section,
            specialist=bench.contract.specialist,
            pool=bench.profile.teacher,
            folder=weights(bench, section.model),
            ledger=bench.ledger / "answers",
            num_prompts=num_prompts,
            checks=bench.contract.judges.checks,
            kit=kit(bench),
        )
        for section in bench.contract.teachers.models
    ]


def _spared(bench: Bench, candidates: Table, desks: list[Desk]) -> dict[str, int]:
    """Answers that were not asked for because enough were verified; a prompt without any answer is not among them."""
    most = {desk.section.name: desk.section.sampling.n for desk in desks}
    if all(desk.section.sampling.enough is None for desk in desks):
        return {}
    spared = 0
    for piece in iterate(bench.draft.folder / "candidates", candidates, ["teacher", "sample"]):
        first = piece.filter(pc.equal(piece["sample"], 0))
        spared += sum(most[teacher] for teacher in first["teacher"].to_pylist()) - piece.num_rows
    return {"spared": spared}


def _bar(bench: Bench, num_answers: int) -> Bar:
    judging = bench.contract.judges
    if bench.contract.teachers.mode == "direct":
        judging = judging.model_copy(update={"rubric": None})
    return Bar(
        section=judging,
        specialist=bench.contract.specialist,
        pool=bench.profile.judge,
        folder=weights(bench, judging.rubric.model) if judging.rubric else None,
        ledger=bench.ledger / "verdicts",
        num_answers=num_answers,
    )


def weights(bench: Bench, model: Model) -> Path | None:
    """Return the folder of a model's weights; None for a model that has none."""
    return None if model.type != "vllm" else locate(model.path, root=bench.root, home=bench.models)
