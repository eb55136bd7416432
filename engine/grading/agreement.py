"""Self-consistency (Wang et al., 2023, section 2): how many samples of a prompt give the same answer."""

from collections import Counter
from collections.abc import Sequence

from engine.checks import canonical


def agreement(groups: Sequence[str], answers: Sequence[str], sound: Sequence[bool]) -> list[float | None]:
    """Return for each answer the share of the sound answers of its group that are equal to it; None for an unsound answer."""
    sizes = Counter(group for group, is_sound in zip(groups, sound, strict=True) if is_sound)
    normalized = [
        (group, canonical(answer) if is_sound and sizes[group] > 1 else "")
        for group, answer, is_sound in zip(groups, answers, sound, strict=True)
    ]
    counts = Counter(pair for pair, is_sound in zip(normalized, sound, strict=True) if is_sound)
    return [counts[pair] / sizes[pair[0]] if is_sound else None for pair, is_sound in zip(normalized, sound, strict=True)]
