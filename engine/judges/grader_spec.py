"""Configuration of a grader."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.contract.evidence import Evidence
from engine.contract.judges import Judges
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist
from engine.contract.teachers import Teacher
from engine.inference.client import ClientSpec


@dataclass(frozen=True)
class ReaderSpec:
    """A model that reads answers as its own, and how it is prompted; plain picklable values."""

    teacher: Teacher
    specialist: Specialist
    client: ClientSpec
    systems: Mapping[str, str] = field(default_factory=dict)
    """Task unit -> system text, of a model with one of its own for each; else it is the teacher's."""


@dataclass(frozen=True)
class EvidenceSpec:
    """What the confidence is computed from; plain picklable values."""

    section: Evidence
    teachers: Mapping[str, ReaderSpec]
    """Name -> each teacher that a model answers for: it reads labelled items."""
    readers: Mapping[str, ReaderSpec]
    """Name -> each reader of the section."""


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
    evidence: EvidenceSpec | None = None

    @property
    def client(self) -> ClientSpec:
        """The first client, for the ledger of calibrations, the markers and the budget."""
        return next(iter([*self.clients.values(), *(reader.client for reader in self.all_readers)]))

    @property
    def all_readers(self) -> list[ReaderSpec]:
        """Teachers and readers of the evidence."""
        return [*self.evidence.teachers.values(), *self.evidence.readers.values()] if self.evidence else []

    @property
    def libraries(self) -> tuple[str, ...]:
        """Modules that take long to import, and that a grader needs."""
        clients = [*self.clients.values(), *(reader.client for reader in self.all_readers)]
        return tuple(sorted({library for client in clients for library in client.libraries}))

    @property
    def has_judge(self) -> bool:
        """Whether anything gives a confidence: rubrics, or evidence."""
        return bool(self.section.rubrics) or self.evidence is not None
