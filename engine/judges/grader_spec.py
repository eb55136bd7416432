"""What graders are given, in plain picklable values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.contract.judges import Judges
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist
from engine.storage.shards import Folder


@dataclass(frozen=True)
class GraderSpec:
    """All that a grader needs."""

    section: Judges
    specialist: Specialist
    pool: Pool
    ledger: Folder
    """What judges have said and were paid for, perhaps by other runs too, and the calibrations that were measured with it."""
    markers: Folder
    """Who is at work, in this run."""
    purse: Folder
    """What this run's judges were paid."""
    folders: Mapping[str, Path | None] = field(default_factory=dict)
    """Rubric -> the weights of its model; none for a model without."""
    competes: bool = False
    """Whether the answers to a prompt compete: of those that would be accepted, only the best are."""
    cap: int | None = None
    """Tokens that judges may be paid for."""
    references: bool = False
    """Whether the prompts have references: labelled items are then shown to the judge with theirs too."""
