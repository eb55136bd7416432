"""What the export of a student measured."""

from pydantic import Field

from engine.records.base import Record


class ExportProbe(Record):
    """The export's logits against the student's, on target tokens of validation examples (teacher forcing)."""

    examples: int = Field(ge=1)
    tokens: int = Field(ge=1)
    """Target tokens."""
    agreement: float
    """Share of them for which both have the same first choice."""
    wanted: float
    """The contract's `agreement`."""
    same_text_ids: float | None = None
    """Share of prompts that the tokenizer inside the file splits into the ids of the chat template, which a server that tokenizes
    text itself depends on; null where the export has no tokenizer of its own."""


class ExportMetrics(Record):
    """Metrics of the artifact `exports/STUDENT/NAME`."""

    deployment: str
    """STUDENT.NAME."""
    type: str
    """Of the contract's export."""
    student: str
    """Fingerprint of the student's artifact."""
    weight_bytes: int
    """Size of the weights."""
    student_weight_bytes: int
    """Size of the student's own weights."""
    tools: dict[str, str]
    """Package that made the export -> version."""
    types: dict[str, int] = Field(default_factory=dict)
    """Type of numbers -> tensors."""
    fell_back: int = 0
    """Tensors with another type than was asked for, as their rows do not fit its blocks."""
    bits_per_weight: float | None = None
    """Of all tensors; null where it was not measured."""
    probe: ExportProbe
    seconds: float
    """To make and probe it."""
