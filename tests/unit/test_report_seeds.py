"""The page's table of a student's seeds."""

from dataclasses import replace
from pathlib import Path

import sample_run

from engine.report.collect import collect
from engine.report.page import page


def test_page_shows_how_far_the_seeds_of_a_student_are_apart(tmp_path: Path) -> None:
    data = collect(**sample_run.run(tmp_path))
    one = {"served": 0.5, "unconstrained": 0.25, "loss": 0.1, "best_step": 5, "steps": 9, "seconds": 1.0, "ended_by": "epochs"}
    seeds = [{"seed": 0, **one}, {"seed": 1, **one, "served": 0.75, "unconstrained": None}]
    metrics = {"seed": 1, "seeds": seeds, "spread": {"served": {"mean": 0.625, "sd": 0.177, "min": 0.5, "max": 0.75}}}
    jobs = [each.model_copy(update={"metrics": metrics}) if each.job == "students/s" else each for each in data.jobs]
    text = page(replace(data, jobs=jobs))
    assert "s over its seeds" in text and "over its seeds" not in page(data)
    assert all(number in text for number in ("0.750", "0.625", "0.177", "those of seed 1"))
