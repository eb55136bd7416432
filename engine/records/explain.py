"""What `rayleigh explain KEY --json` prints: each key of the contract, or of a cluster profile, that KEY names."""

from engine.records.base import Record


class ExplainedKey(Record):
    """One key."""

    path: str
    """Where it is: `N` stands for an item of a list, `KEY` for one of a mapping, `(type: ...)` names a variant."""
    more_paths: tuple[str, ...]
    """Further paths of sections that have the same key."""
    file: str
    """`contract` or `cluster profile`."""
    yaml: str
    """The key in its place, as YAML; its value is the default, or ... where there is none."""
    meaning: str
    type: str
    """Type with its limits, in words."""
    default: str | None
    """As JSON; null for a key that is required."""
    choices: tuple[str, ...]
    """Values of a closed set, as JSON; empty for any other type."""
    keys: tuple[str, ...]
    """Keys below it, if it is a section or a list of sections."""
    read_by: tuple[str, ...]
    """Jobs whose recipe it is part of: `rayleigh run` refuses to go on with one that is finished when the value has changed."""
    reruns: tuple[str, ...]
    """Jobs that have to run again after a change: those that read it, and all that need their artifacts."""
    hints: tuple[str, ...]
    """Other ways to apply a change to a finished run."""


class Explanation(Record):
    """All keys that were named."""

    keys: tuple[ExplainedKey, ...]
