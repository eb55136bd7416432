"""Counts answers that were skipped, by reason: with them, the answers that were possible and the rows that exist add up."""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.teachers import Teachers
from engine.teachers.route import UNMATCHED, reached


class SkippedCounter:
    """Counts by reason how many of the n answers of every teacher to every prompt were not asked for.

    `not_routed`: the prompt's route leads to other teachers, or to none, which leaves one row without a teacher. `early_stopped`:
    later samples of a teacher, because enough earlier ones were verified. A lost answer has no reason.
    """

    def __init__(self, section: Teachers) -> None:
        self.samples = {teacher.name: teacher.sampling.n for teacher in section.models}
        self.per_prompt = sum(self.samples.values())
        self.teachers = {"": tuple(self.samples), UNMATCHED: ("",)} | reached(section.routes or ())
        self.samples[""] = 1
        stops_early = any(teacher.sampling.stop_after_verified for teacher in section.models)
        self.reasons = [*(["not_routed"] if section.routes else []), *(["early_stopped"] if stops_early else [])]

    def __call__(self, answers: pa.Table) -> Counter[str]:
        """Return reason -> skipped answers of a block of ANSWER rows, which holds all answers to each of its prompts."""
        if not self.reasons:
            return Counter()
        routes = answers.group_by(["prompt_id", "route"]).aggregate([])["route"].to_pylist()
        expected = sum(self.samples[teacher] for route in routes for teacher in set(self.teachers[route]))
        first = answers.filter(pc.equal(answers["sample"], 0))["teacher"].to_pylist()
        counts = {
            "not_routed": self.per_prompt * len(routes) - expected,
            "early_stopped": sum(self.samples[teacher] for teacher in first) - answers.num_rows,
        }
        return Counter({reason: counts[reason] for reason in self.reasons})
