"""What `rayleigh trace RUN ID --json` prints: a student, an answer or a prompt, and everything between it and its source.

Parts that are called columns of a table are described in `engine/rows.py`.
"""

from typing import Literal

from engine.records.base import Json, Record


class TracedArtifact(Record):
    """An artifact on the way."""

    job: str
    """Name of the job that made it."""
    folder: str
    fingerprint: str
    """Hash of its recipe and rows."""
    commit: str | None
    """Commit of the code that made it."""
    finished: str
    """ISO 8601, UTC."""


class TracedParent(Record):
    """The prompt from which another was synthesized."""

    prompt: Json
    """Columns of PROMPT."""
    source: Json
    """`source`, `line` and `licence`."""


class MergedAnswer(Record):
    """One of the answers from which an answer was merged, or which a person corrected."""

    candidate: Json
    """Columns of CANDIDATE."""
    source: Json
    """`source`, `line` and `licence`."""


class AnswerPath(Record):
    """An answer, from the example that was made of it back to its source."""

    example: Json | None
    """Columns of EXAMPLE; null if no example was made of it."""
    curation: Json | None
    """Its cluster, why it was dropped, the answer that it duplicates and how similar they are; null if it was not curated."""
    candidate: Json
    """Columns of CANDIDATE: teacher, sampling, finish reason, checks, scores, pool and reasons."""
    parents: tuple[MergedAnswer, ...]
    """The answers from which it was made, by merging or by a person's correction."""
    label: Json | None
    """The pool to which a person sent it, and the reasons; null without a label."""
    derived: tuple[Json, ...]
    """Examples that were derived from it because it failed: `kind`, `target`, `split`."""
    prompt: Json
    """Columns of PROMPT."""
    source: Json
    """`source`, `line` and `licence`."""
    parent: TracedParent | None
    """Null unless the prompt was synthesized."""


class AnswerTrace(AnswerPath):
    """Trace of an answer."""

    kind: Literal["answer"] = "answer"
    records: tuple[TracedArtifact, ...]


class StudentTrace(Record):
    """Trace of a student, or of an export of it."""

    kind: Literal["student"] = "student"
    export: Json | None = None
    """Metrics of the export that was asked for (engine/records/export.py); null for the student itself."""
    student: Json
    """`name`, the metrics of its training, `exports` (those that were made, such as `s.q8_0`), `learnt` (examples by split and
    pool) and `sources` (examples by source file)."""
    examples: tuple[AnswerPath, ...]
    """Some of the answers that it learnt from."""
    records: tuple[TracedArtifact, ...]


class PromptTrace(Record):
    """Trace of a prompt."""

    kind: Literal["prompt"] = "prompt"
    prompt: Json
    """Columns of PROMPT or DROPPED_PROMPT; `place`: `prompt`, `holdout prompt` or `dropped prompt`; `answers` to it."""
    source: Json
    """`source`, `line` and `licence`."""
    parent: TracedParent | None
    """Null unless it was synthesized."""
    records: tuple[TracedArtifact, ...]


Trace = StudentTrace | AnswerTrace | PromptTrace
