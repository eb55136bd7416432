"""Counts answers that were skipped, by reason: with them, the answers that were possible and the rows that exist add up."""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.teachers import Teachers
from engine.teachers.route import UNMATCHED, reached


class SkippedCounter:
    """Counts by reason how many of the n answers of every teacher to every prompt were not asked for.

    `not_routed`: the prompt's route leads to other teachers, or to none, which leaves one row without a teacher. `early_stopped`:
    later samples of a teacher, because enough earlier ones were verified, or agreed. `no_reference`: a teacher that gives labels
    has none for the prompt. A lost answer has no reason.
    """

    def __init__(self, section: Teachers) -> None:
        self.samples = {teacher.name: teacher.sampling.n for teacher in section.models}
        self.per_prompt = sum(self.samples.values())
        self.teachers = {"": tuple(self.samples), UNMATCHED: ("",)} | reached(section.routes or ())
        self.samples[""] = 1
        samplings = [teacher.sampling for teacher in section.models]
        stops_early = any(each.stop_after_verified or each.stop_when_agreed for each in samplings)
        self.labels = {teacher.name for teacher in section.models if not teacher.answers}
        self.can_vanish = self._only_labels(section)
        counted = {"not_routed": section.routes, "early_stopped": stops_early, "no_reference": self.labels}
        self.reasons = [reason for reason, is_possible in counted.items() if is_possible]

    def __call__(self, answers: pa.Table) -> Counter[str]:
        """Return reason -> skipped answers of a block of ANSWER rows, which holds all answers to each of its prompts."""
        if not self.reasons:
            return Counter()
        prompts = answers.group_by(["prompt_id", "route", *(["reference"] if self.labels else [])]).aggregate([]).to_pylist()
        asked = [(prompt, teacher) for prompt in prompts for teacher in set(self.teachers[prompt["route"]])]
        unlabelled = sum(teacher in self.labels and prompt["reference"] is None for prompt, teacher in asked)
        first = answers.filter(pc.equal(answers["sample"], 0))["teacher"].to_pylist()
        counts = {
            "not_routed": self.per_prompt * len(prompts) - sum(self.samples[teacher] for _, teacher in asked),
            "early_stopped": sum(self.samples[teacher] for teacher in first) - answers.num_rows,
            "no_reference": unlabelled,
        }
        return Counter({reason: counts[reason] for reason in self.reasons})

    def without_rows(self, prompts: int) -> Counter[str]:
        """Return reason -> skipped answers of `prompts` prompts without any row: only labels were asked for them, and have none."""
        if not self.can_vanish:
            return Counter()
        sole = 1 if "not_routed" in self.reasons else self.per_prompt
        counts = Counter({"no_reference": sole * prompts, "not_routed": (self.per_prompt - sole) * prompts})
        return Counter({reason: counts[reason] for reason in self.reasons})

    def _only_labels(self, section: Teachers) -> bool:
        """Return whether a prompt may be sent to labels alone."""
        if section.routes:
            return any(set(to) <= self.labels for to in reached(section.routes).values())
        return self.labels == {teacher.name for teacher in section.models}
