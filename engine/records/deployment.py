"""`deployment.json` of a release: the one thing that is evaluated, gated, released and served."""

from engine.records.base import Json, Record
from engine.records.record import FileEntry


class AskedModel(Record):
    """A model, and how it is asked: the prompt around a request, and how the answer is decoded."""

    name: str
    """Name in the contract: that of a student, an export (`s.q8_0`) or a teacher."""
    role: str
    """`student`, or `teacher` for the fallback."""
    model: Json
    """Engine and its options, as a contract writes them; without `path` where the weights are those of the release."""
    units: tuple[Json, ...]
    """Task units, as the contract writes them: answer schema, spans, supervision."""
    systems: dict[str, str]
    """Task unit -> system text."""
    shots: Json
    """Worked examples, as the contract writes them."""
    structured: bool
    """Whether decoding is constrained to the schema of the task unit and to spans of the prompt."""
    thinks: Json | None
    """Tags around the model's reasoning."""
    max_tokens: int
    """Most tokens of an answer. Decoding is greedy."""


class DeploymentManifest(Record):
    """A release as it is served. `fingerprint` changes with everything that an answer depends on."""

    version: int
    """Version of this form; a server refuses one that it does not know."""
    contract: str
    """Name of the contract."""
    student: AskedModel
    fallback: AskedModel | None = None
    """The teacher that the report compares the student with, for requests that are handed on; null: there is none that a server
    can ask."""
    answer_above: float = 0.0
    """Least confidence of an answer that the contract wants; requests below it fall back."""
    redact: tuple[str, ...] = ()
    """Kinds of personal data that are replaced in a request before a model reads it, as in training and in the holdout."""
    max_chars: int
    """A longer request is refused; such prompts were not evaluated."""
    price: Json
    """Prices, as the contract writes them."""
    packages: dict[str, str]
    """Package -> version, of those with which the student was evaluated."""
    files: tuple[FileEntry, ...]
    """Weights, tokenizer and chat template, relative to the release."""
    fingerprint: str
    """SHA-256 of this record without this key, as JSON with sorted keys and without spaces."""
