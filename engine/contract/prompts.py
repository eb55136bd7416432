"""Room 1: where prompts come from."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from engine.contract.base import Positive, Section, Share
from engine.contract.synthesize import Layer, Synthesis

Entity = Literal["email", "phone", "card", "iban", "ip"]
Column = Literal["text", "messages", "layer", "difficulty", "scenario", "language", "id", "reference"]


def _has_a_prompt(columns: dict[Column, str]) -> dict[Column, str]:
    if "text" not in columns and "messages" not in columns:
        raise ValueError(f"needs text or messages, found {sorted(columns)}")
    return columns


def _has_a_reference(columns: dict[Column, str]) -> dict[Column, str]:
    if "reference" not in columns:
        raise ValueError(f"needs reference, found {sorted(columns)}")
    return columns


Columns = Annotated[dict[Column, str], AfterValidator(_has_a_prompt)]
"""Our column -> the source's column. `messages` goes before `text`; `id` must not repeat within its source."""


class Source(Section):
    """Prompts in JSONL, CSV or Parquet, by the ending; `.gz` and the like are unpacked."""

    path: str
    """A file, folder, glob or fsspec URL; relative to the contract's folder, or absolute."""
    licence: str
    task_unit: str | None = None
    """Which task unit these prompts belong to; not needed if the specialist has one."""
    columns: Columns = {"text": "input"}  # noqa: RUF012
    take: Positive | None = None
    """Only this many rows, spread evenly over the source."""


class Holdout(Section):
    """Prompts with a reference that no model wrote. Split off before any teacher sees a prompt."""

    path: str
    licence: str = "unknown"
    labels: Literal["rule", "human"]
    columns: Annotated[Columns, AfterValidator(_has_a_reference)] = {"text": "input", "reference": "reference"}  # noqa: RUF012
    take: Positive | None = None


class Copies(Section):
    """What counts as the same prompt."""

    threshold: Share = 0.8
    """Jaccard similarity of n-grams from which two prompts are near copies."""
    ngram: Positive = 3
    """Words, or characters, in a shingle."""
    unit: Literal["auto", "word", "character"] = "auto"
    """`auto`: characters where at least half of a text is in a script without spaces (Chinese, Japanese, Thai ...), else words."""
    num_perm: Positive = 128
    bands: Positive | None = None
    """Pieces that a signature is cut into; texts that share one are compared. Given with `rows`, or chosen by the threshold."""
    rows: Positive | None = None
    """Minima in a band. More bands of fewer rows miss fewer copies and compare more pairs."""

    @model_validator(mode="after")
    def bands_fit_into_the_signature(self) -> "Copies":
        if (self.bands is None) != (self.rows is None):
            raise ValueError(f"bands and rows: found bands {self.bands} and rows {self.rows}; give both, or neither")
        if self.bands and self.rows and self.bands * self.rows > self.num_perm:
            raise ValueError(
                f"bands * rows: found {self.bands} * {self.rows} = {self.bands * self.rows}, expected at most num_perm "
                f"{self.num_perm}; raise num_perm to {self.bands * self.rows}, or take fewer bands"
            )
        return self


class Prompts(Section):
    """Sources in, prompts and a holdout out."""

    sources: tuple[Source, ...] = Field(min_length=1)
    holdout: Holdout
    redact: tuple[Entity, ...] = ()
    """Kinds of personal data replaced by <EMAIL>, <PHONE> ... before anything else reads the text."""
    max_chars: Positive = 20_000
    """A longer prompt is rejected as `too_long`."""
    copies: Copies = Copies()
    layers: dict[Layer, Share] = Field(default_factory=dict)
    """Wanted shares of the layers; reported beside the found ones, and what `synthesize` works towards."""
    synthesize: tuple[Synthesis, ...] = ()
    """Prompts that are written from the seeds that stay; they are redacted, checked and compared as a source's are."""
    shard_rows: Positive = 5_000
    """Rows in one Parquet shard."""

    @model_validator(mode="after")
    def syntheses_are_told_apart(self) -> "Prompts":
        titles = [one.title for one in self.synthesize]
        if len(set(titles)) < len(titles):
            raise ValueError(f"synthesize: names must differ, found {titles}; give one of them a `name`")
        return self
