"""Metrics of the job `prompts`."""

from pydantic import AliasChoices, Field

from engine.records.base import Record
from engine.records.dedup import SharedWords


class LayerShare(Record):
    """Share of one layer among the prompts, 0 to 1."""

    wanted: float | None
    """From `prompts.layers`; null if the contract does not say."""
    found: float


class SynthesisQuota(Record):
    """Result of one synthesis for one layer, in prompts."""

    source: str
    """`synthesize/` and the name of the synthesis, as in the column `source`."""
    layer: str
    wanted: int
    requested: int = Field(validation_alias=AliasChoices("requested", "asked"))
    """Asked of the model, over all rounds."""
    valid: int = Field(validation_alias=AliasChoices("valid", "made"))
    """Written and not rejected; copies among them were dropped."""
    kept: int
    missing: int
    """`wanted` minus `kept`."""


class SynthesisMetrics(Record):
    """Prompts written from seeds, and what they cost."""

    quotas: tuple[SynthesisQuota, ...]
    tokens_in: int = 0
    """Prompt tokens of all replies."""
    tokens_out: int = 0
    """Completion tokens of all replies."""


class PromptsMetrics(Record):
    """Composition of the prompts."""

    layers: dict[str, LayerShare]
    redacted: dict[str, int]
    """Kind of personal data -> rows in which it was replaced."""
    sources: dict[str, int]
    """Path of a source -> rows read."""
    shared: dict[str, SharedWords] = {}  # noqa: RUF012
    """Split and source or task unit -> words that many of its prompts have in common."""
    cut: dict[str, int] = {}  # noqa: RUF012
    """Path of a source -> conversations that went on after the last turn of the user and were cut off there."""
    seconds: float
    """Wall-clock time of the job."""
    synthesis: SynthesisMetrics | None = None
    """Null if the contract has no `prompts.synthesize`."""
