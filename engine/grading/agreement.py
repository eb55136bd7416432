"""Self-consistency (Wang et al., 2023, section 2): how many samples of a prompt give the same answer."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from engine.checks import canonical


def agreement(groups: Sequence[str], answers: Sequence[str], sound: Sequence[bool]) -> list[float | None]:
    """Return for each answer the share of the sound answers of its group that are equal to it; None for an unsound answer."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    normalized = [canonical(answer) for answer in answers]
    for group, answer, is_sound in zip(groups, normalized, sound, strict=True):
        if is_sound:
            counts[group][answer] += 1
    return [
        counts[group][answer] / counts[group].total() if is_sound else None
        for group, answer, is_sound in zip(groups, normalized, sound, strict=True)
    ]
