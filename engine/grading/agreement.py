"""Self-consistency (Wang et al., 2023, section 2): how many of a prompt's samples say the same."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from engine.checks import canonical


def agreement(groups: Sequence[str], answers: Sequence[str], sound: Sequence[bool]) -> list[float | None]:
    """Return for each answer the share of the sound answers of its group that say the same; None for an unsound answer."""
    said: dict[str, Counter[str]] = defaultdict(Counter)
    spelled = [canonical(answer) for answer in answers]
    for group, answer, is_sound in zip(groups, spelled, sound, strict=True):
        if is_sound:
            said[group][answer] += 1
    return [
        said[group][answer] / said[group].total() if is_sound else None
        for group, answer, is_sound in zip(groups, spelled, sound, strict=True)
    ]
