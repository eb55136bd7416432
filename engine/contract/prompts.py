"""Room 1: where prompts come from."""

from typing import Literal

from pydantic import Field

from engine.contract.base import Positive, Section, Share

Entity = Literal["email", "phone", "card", "iban", "ip"]


class Source(Section):
    """One file, folder or URL of prompts (JSONL, CSV or Parquet, by its ending)."""

    path: str
    """Relative to the contract's folder, absolute, or any fsspec URL."""
    licence: str
    task_unit: str | None = None
    """Which task unit these prompts belong to; not needed if the specialist has one."""
    columns: dict[str, str] = Field(default_factory=lambda: {"text": "input"})
    """Our column -> the source's column. Ours: text, messages, layer, difficulty, scenario, language, id, reference."""
    take: Positive | None = None
    """Only this many rows, spread evenly over the file."""


class Holdout(Section):
    """Prompts with a reference that no model wrote. Split off before any teacher sees a prompt."""

    path: str
    licence: str = "unknown"
    labels: Literal["rule", "human"]
    columns: dict[str, str] = Field(default_factory=lambda: {"text": "input", "reference": "reference"})
    take: Positive | None = None


class Copies(Section):
    """What counts as the same prompt."""

    threshold: Share = 0.8
    """Jaccard similarity of word n-grams from which two prompts are near copies."""
    ngram: Positive = 3
    """Words in a shingle."""
    num_perm: Positive = 128


class Prompts(Section):
    """Sources in, prompts and a holdout out."""

    sources: tuple[Source, ...] = Field(min_length=1)
    holdout: Holdout
    redact: tuple[Entity, ...] = ()
    """Kinds of personal data replaced by <EMAIL>, <PHONE> ... before anything else reads the text."""
    max_chars: Positive = 20_000
    """A longer prompt is rejected as `too_long`."""
    copies: Copies = Copies()
    layers: dict[Literal["core", "failure_mode", "long_tail"], Share] = Field(default_factory=dict)
    """Wanted shares of the layers; reported beside the found ones."""
    shard_rows: Positive = 5_000
    """Rows in one Parquet shard."""
