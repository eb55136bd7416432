"""Configuration of a grader."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.contract.judges import Judges, Rubric
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist
from engine.inference.client import ClientSpec
from engine.storage.folder import Folder


@dataclass(frozen=True)
class GraderSpec:
    """Configuration of a grader; plain picklable values."""

    section: Judges
    specialist: Specialist
    pool: Pool
    ledger: Folder
    """Answers of judges that were paid for, perhaps by other runs too, and the calibrations that were learnt from them."""
    markers: Folder
    """In-flight markers of this run's processes."""
    budget: Folder
    """Token usage of this run's judges."""
    weights: Mapping[str, Path | None] = field(default_factory=dict)
    """Rubric -> folder of its model's weights; None for a model that has none."""
    competes: bool = False
    """Whether the answers to a prompt compete: of those that would be accepted, only the best are."""
    cap: int | None = None
    """Tokens that judges may use."""
    references: bool = False
    """Whether the prompts have references: labelled items are then shown to the judge with theirs too."""

    def client(self, rubric: Rubric) -> ClientSpec:
        """Return the client of a rubric's model."""
        weights = self.weights.get(rubric.name)
        return ClientSpec(rubric.model, self.pool, weights, self.ledger, self.markers, self.budget, self.cap, payee=rubric.name)
