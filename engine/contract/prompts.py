"""Sources of prompts."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from engine.contract.base import NonEmpty, Positive, Section, Share, added, distinct
from engine.contract.synthesize import Layer, Synthesis

Entity = Literal["email", "phone", "card", "iban", "ip"]
LastAssistant = Literal["reference", "drop", "reject"]
Normalization = Literal["nfc", "nfkc", "none"]
Column = Literal["text", "messages", "layer", "difficulty", "scenario", "language", "id", "reference"]


def _have_a_prompt(columns: dict[Column, str]) -> dict[Column, str]:
    if columns.keys().isdisjoint(("text", "messages")):
        raise ValueError(f"needs text or messages, found {sorted(columns)}")
    return columns


Columns = Annotated[dict[Column, str], AfterValidator(_have_a_prompt)]
"""Column of the prompts -> column of the source. `messages` has priority over `text`; values of `id` must be unique.
`messages` are turns of `role` and `content` (a text, or parts of type text) or of `from` and `value` (ShareGPT), or their JSON."""


Damaged = Literal["refuse", "keep"]
"""What is done with a file that ends early, or whose data is damaged."""


class Source(Section):
    """Prompts in JSONL (or one JSON array), CSV, TSV or Parquet, as the file's ending says; `.gz`, `.bz2`, `.xz`, `.zst` and `.lz4`
    are decompressed."""

    path: NonEmpty
    """A file, folder, glob or fsspec URL; relative to the contract's folder, or absolute. A path that exists is that path, whatever
    characters it has. Of a folder, names that begin with `.` or `_` are no data, and folders `key=value` are columns."""
    licence: str
    task_unit: str | None = None
    """Task unit of these prompts; required if the specialist has several."""
    columns: Columns = {"text": "input"}  # noqa: RUF012
    """Our column -> the source's. `data.text` is `text` in `data`. Each must be in some row of the source."""
    last_assistant: LastAssistant = "reference"
    """What becomes of an answer that ends a conversation of `messages`, which is no part of the prompt: `reference` makes it the
    prompt's reference if none is mapped, `drop` forgets it, `reject` rejects the row as `ends_with_assistant`."""
    take: Positive | None = None
    """Take only this many rows, spread evenly over the source; null: all."""
    damaged: Damaged = "refuse"
    """`refuse` stops at a file that is cut or damaged; `keep` takes the rows that can be read, and rejects the rest as one row."""
    lines: dict[str, tuple[Positive, ...]] | None = added(None)
    """File of the source, as the column `source` of the prompts names it -> the lines (rows of Parquet) that are taken, from 1; of
    a file that is not named none. null: all. `rayleigh iterate` writes it."""

    @model_validator(mode="after")
    def lines_are_all_that_is_taken(self) -> "Source":
        if self.lines is not None and self.take is not None:
            raise ValueError(f"take: found {self.take} beside lines, which say what is taken; leave one of them out")
        return self


class Holdout(Section):
    """Prompts for evaluation, with references that no model wrote. No teacher sees them, nor copies of them."""

    path: NonEmpty
    licence: str = "unknown"
    labels: Literal["rule", "human"]
    columns: Columns = {"text": "input", "reference": "reference"}  # noqa: RUF012
    last_assistant: LastAssistant = "reference"
    """What becomes of an answer that ends a conversation of `messages`, which is no part of the prompt: `reference` makes it the
    prompt's reference if none is mapped, `drop` forgets it, `reject` rejects the row as `ends_with_assistant`."""
    take: Positive | None = None
    damaged: Damaged = "refuse"

    @model_validator(mode="after")
    def every_row_has_a_reference(self) -> "Holdout":
        if "reference" not in self.columns and ("messages" not in self.columns or self.last_assistant != "reference"):
            raise ValueError(f"columns: needs reference, or messages with last_assistant reference, found {sorted(self.columns)}")
        return self


class Copies(Section):
    """Which prompts are copies of each other (MinHash). The turns of the user are compared, of all task units together: turns of
    the system and of the assistant, and the task unit, do not tell two prompts apart."""

    threshold: Share = 0.8
    """Two prompts are near copies if the Jaccard similarity of their n-grams is at least this."""
    ngram: Positive = 3
    """Words, or characters, of an n-gram."""
    unit: Literal["auto", "word", "character"] = "auto"
    """`auto`: characters where at least half of a text is in a script without spaces (Chinese, Japanese, Thai ...), else words."""
    normalization: Normalization = "nfc"
    """Unicode form in which texts are compared, without characters that have no width; what is written stays as it was. `nfkc`
    also makes full-width letters, ligatures and superscripts plain; `none` compares the texts as they are written."""
    max_df: Share = 0.5
    """An n-gram does not count if more than this share of the prompts of a source or task unit have it, and ten at least: an
    instruction that all prompts repeat is no likeness. For prompts only; 1: every n-gram counts."""
    num_perm: Positive = 128
    bands: Positive | None = None
    """Bands of a signature; texts that share a band are compared. Give it with `rows`, or neither: then the threshold decides."""
    rows: Positive | None = None
    """Hash values in a band. More bands of fewer rows miss fewer copies and compare more pairs."""

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


class Withdrawn(Section):
    """Rows that may not be used any more, named by exactly one of the keys."""

    prompt: str | None = None
    """Id of a prompt."""
    source: str | None = None
    """Path of a source as the contract writes it, or of a file of it."""
    licence: str | None = None

    @model_validator(mode="after")
    def names_one_thing(self) -> "Withdrawn":
        found = [name for name in ("prompt", "source", "licence") if getattr(self, name) is not None]
        if len(found) != 1:
            raise ValueError(f"found {' and '.join(found) or 'none of them'}, expected exactly one of prompt, source, licence")
        return self


class Prompts(Section):
    """Sources in, prompts and a holdout out."""

    sources: tuple[Source, ...] = Field(min_length=1)
    holdout: Holdout
    redact: tuple[Entity, ...] = ()
    """Kinds of personal data that are replaced by <EMAIL>, <PHONE> ... before any other step reads the text."""
    max_chars: Positive = 20_000
    """A longer prompt is rejected as `too_long`."""
    copies: Copies = Copies()
    layers: dict[Layer, Share] = Field(default_factory=dict)
    """Wanted shares of the layers; reported, and the target of `synthesize`."""
    synthesize: Annotated[tuple[Synthesis, ...], distinct("title", hint="; give one of them a `name`")] = ()
    """Prompts that are written from seeds; redacted, validated and deduplicated like rows of a source."""
    shard_rows: Positive = 5_000
    """Rows in one Parquet shard."""
    withdrawn: tuple[Withdrawn, ...] = Field(default=(), exclude_if=lambda value: not value)
    """Rows that are rejected as `withdrawn`, whose texts are not kept; `rayleigh withdraw` says what to write here."""
    earlier: tuple[str, ...] = added(())
    """Run folders, relative to the contract's folder, absolute, or URLs, whose prompts come first, as they are there: with their
    ids, sources and parents, so that nothing that was paid for them is paid again. A new prompt that is a copy of one of them is
    dropped. `rayleigh iterate` writes it."""
