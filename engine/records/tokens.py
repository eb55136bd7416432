"""Metrics of the job `tokens`."""

from engine.records.base import Record


class TokenizerSummary(Record):
    """One tokenizer, and the examples as its token ids."""

    key: str
    """Hash of the tokenizer's files: its examples are in the table `examples_KEY`, its files in the folder `tokenizer_KEY`."""
    made_from: list[str]
    """What each student's `init` says of its tokenizer (engine.students.init.tokenizer.description)."""
    students: list[str]
    """Students that use it, by their names in the contract."""
    words: int
    """Size of its vocabulary."""
    turn_end: list[str]
    """Tokens that end the target, from the chat template."""
    tokens: int
    """Of all examples."""
    target_tokens: int
    """Those that are learned: targets with the end of the turn."""
    longest: int
    """Tokens of the longest example."""


class TokensMetrics(Record):
    """Metrics of the artifact `tokens`."""

    tokenizers: list[TokenizerSummary]

    def of(self, description: str) -> TokenizerSummary | None:
        """Return the tokenizer that was made from `description`; None if there is none."""
        return next((one for one in self.tokenizers if description in one.made_from), None)
