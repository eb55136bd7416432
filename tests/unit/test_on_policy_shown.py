"""Rounds in `rayleigh status` and on the page."""

from dataclasses import replace
from pathlib import Path

import sample_run

from engine.contract.students import Student
from engine.records.on_policy import HeldOut, OnPolicyMetrics, RoundMetrics
from engine.records.status import StudentRounds
from engine.report.collect import collect
from engine.report.page import page
from engine.storage.folder import Folder
from engine.students.on_policy.store import ROUNDS, furthest
from jobs.commands.status import round_table
from jobs.steps.on_policy import warnings

HELD = HeldOut(answers=9, score=0.512, ended=1.0, length=10.25, repetition=0.125, entropy=0.432)
ROUND = RoundMetrics(round=1, held_out=HELD, prompts=2, samples=8, learned=6, score=0.375, no_signal=0.25, loss=0.01)
ENDED = OnPolicyMetrics(
    objective="grpo", rounds=(ROUND,), final=HELD, kept=0, ended_by="collapse", why="after round 1 the <b>score</b> fell"
)


def test_page_shows_the_rounds_and_why_they_ended(tmp_path: Path) -> None:
    data = collect(**sample_run.run(tmp_path))
    metrics = {"on_policy": ENDED.model_dump(mode="json")}
    jobs = [each.model_copy(update={"metrics": metrics}) if each.job == "students/s" else each for each in data.jobs]
    text = page(replace(data, jobs=jobs))
    assert "s on its own samples" in text and "on its own samples" not in page(data)
    assert all(part in text for part in ("0.375", "0.512", "10.2", "0.432", "No round was kept", "ended early (collapse)"))
    assert "the <b>score" not in text


def test_status_shows_finished_rounds_also_while_the_student_is_in_training(tmp_path: Path) -> None:
    running = StudentRounds(name="s", rounds=(ROUND,), of=3)
    text = round_table([running])
    assert "1 of 3" in text and "0.375" in text and "25%" in text and "kept" not in text
    assert "kept: 0" in round_table([running.model_copy(update={"outcome": ENDED})]) and round_table([]) == ""
    ledger = Folder(str(tmp_path))
    assert furthest(ledger, "s") == []
    for recipe, rounds in (("a", 1), ("b", 2)):
        for number in range(1, rounds + 1):
            record = ROUND.model_copy(update={"round": number})
            (ledger / f"{ROUNDS}/s/{recipe}/round-{number}").write("round.json", record.model_dump_json().encode())
    assert [each.round for each in furthest(ledger, "s")] == [1, 2]


def test_the_warning_says_which_weights_are_the_student() -> None:
    student = Student.model_validate({"name": "s", "init": {"prune": {"source": "x", "layers": [0]}}})
    [line] = warnings(student, ENDED)
    assert line.startswith("student s: on-policy training ended early (collapse), and the weights of the training on examples are")
    assert "the weights of round 2 are kept" in next(warnings(student, ENDED.model_copy(update={"kept": 2})))
    assert not list(warnings(student, ENDED.model_copy(update={"ended_by": "rounds"})))
