"""What the capture of the teachers' distributions measured."""

from typing import Literal

from engine.records.base import Record


class TeacherCapture(Record):
    """What one teacher scored."""

    weight: float | None = None
    """Its weight in the mixture; null where each example has one teacher."""
    examples: int
    """Examples with a distribution; copies count once."""
    masked: int
    """Those of them to which the mask of the answer's schema was applied."""
    target_tokens: int
    """Tokens of their targets in the teacher's vocabulary, with the end of each turn."""
    tokens_read: int
    """Prompt tokens of their scoring, whenever it was paid."""
    agreement: float
    """Share of the target tokens that are the teacher's first choice."""
    mean_k: float
    """Mean number of stored entries of a token, with the target's own."""
    mean_tail: float
    """Mean mass beyond the entries."""
    bytes_per_token: float
    """Bytes on disk, without the vocabulary."""


class CaptureMetrics(Record):
    """Metrics of the artifact `capture`."""

    constraint: Literal["none", "answer"]
    """As in the contract."""
    gate: Literal["none", "agree"]
    """As in the contract; applied when a student reads the capture."""
    teachers: dict[str, TeacherCapture]
    """Teacher -> what it scored."""
    tokens_paid: int
    """Teacher tokens that the job paid; 0 if the ledger held all."""
    aligned: dict[str, float] = {}  # noqa: RUF012
    """Key of a tokenizer in the artifact `tokens` -> share of its target tokens that the distributions can be laid on."""

    @property
    def lines(self) -> list[str]:
        """What each teacher scored, and on how much of it students can be trained, in words."""
        teachers = [
            f"{name}: {each.target_tokens} target tokens of {each.examples} examples; the first choice is the target at "
            f"{each.agreement:.1%}; {each.mean_k:.1f} entries, {each.mean_tail:.2%} tail and {each.bytes_per_token:.1f} B a token"
            for name, each in self.teachers.items()
        ]
        return teachers + [
            f"tokenizer {key}: {share:.1%} of the target tokens can be laid on it" for key, share in self.aligned.items()
        ]
