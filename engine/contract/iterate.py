"""The section `iterate`: how `rayleigh iterate` plans the rounds after the first. No job depends on it."""

from typing import Literal, get_args

from pydantic import Field

from engine.contract.base import Positive, Section, Share

Heed = Literal["gain", "coverage", "stop", "teacher", "labels", "larger_student"]
"""What ends an iteration. `gain`: the last round is proven to bring less than `evaluation.worth`; `coverage`: most of its new
prompts were copies; the others: what the round's report advises, in place of more data."""


class Iterate(Section):
    """Rounds of distillation, each with more prompts where the student of the last one is weak."""

    begin: Literal["source", "champion"] = "source"
    """What the students of a later round begin with. `source`: with what `students.N.init` says, as in the first round; `champion`:
    the student that is the champion goes on from its release, the others begin as in the first round."""
    prompts: Positive = 100
    """New prompts of a round, at most."""
    rows: Positive = 20
    """Holdout prompts that a slice must have, and that there must be outside of it, to be called weak."""
    slices: tuple[Literal["task_unit", "layer", "difficulty", "scenario"], ...] = Field(
        default=("task_unit", "layer", "difficulty"), min_length=1
    )
    """Columns of the prompts by whose values the holdout is divided to find what is weak, and new prompts are chosen."""
    traffic: Share = 0.5
    """Share of a round's new prompts that may come from the records of `--from-traffic`."""
    traffic_licence: str = "traffic"
    """Licence of these prompts: recorded with each of them, and a name that `rayleigh withdraw --licence` takes."""
    counter_examples: bool = True
    """Whether a contract without `prompts.synthesize` gets counter-examples by rule, where a task unit allows them and the layer
    `failure_mode` lacks prompts. They need no model."""
    heed: tuple[Heed, ...] = get_args(Heed)
    """What ends the iteration before its last round."""
