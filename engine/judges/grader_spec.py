"""Configuration of a grader."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.contract.judges import Judges
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist
from engine.inference.client import ClientSpec


@dataclass(frozen=True)
class GraderSpec:
    """Configuration of a grader; plain picklable values."""

    section: Judges
    specialist: Specialist
    pool: Pool
    clients: Mapping[str, ClientSpec] = field(default_factory=dict)
    """Rubric -> client of its model. All have the same ledger, markers and budget; the ledger also holds the calibrations."""
    competes: bool = False
    """Whether the answers to a prompt compete: of those that would be accepted, only the best are."""
    references: bool = False
    """Whether the prompts have references: labelled items are then shown to the judge with theirs too."""

    @property
    def client(self) -> ClientSpec:
        """The first client, for the ledger, markers and budget that all share."""
        return next(iter(self.clients.values()))
