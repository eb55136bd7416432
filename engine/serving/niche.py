"""Whether a request is of the kind that the student was trained for. What is outside is not answered by a student at all.

Cheapest first: the contract's rules, the length, the language, then the distance in meaning to the training prompts. The distance
is the mean over the nearest training prompts of 1 - cosine, and is judged by a conformal p-value: the share of other prompts of the
niche (the holdout's) that are as far or farther (Vovk, Gammerman and Shafer, 2005, chapter 2; for outliers Bates, Candes, Lei,
Romano and Sesia, Annals of Statistics 51, 2023). So a request like those of the holdout is called outside with probability
`niche.false_alarms` at most. Below 1 / `false_alarms` - 1 of these prompts no distance is far enough, and the check is not used.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from engine.checks.language import NO_LANGUAGE, NO_TEXT, SURE, hear
from engine.contract.serving import NicheCheck
from engine.contract.specialist import Specialist
from engine.stats.intervals import Array

Embed = Callable[[Sequence[str]], Array]
"""Texts -> unit vectors, (texts, dimensions)."""
PROBE = "Which encoder is this?"
LEAST_CHARS = 20  # of a text whose language is heard


class Verdict(NamedTuple):
    """Whether a request is inside, and if not, why."""

    inside: bool
    reason: str = ""  # rule NAME, length, language, non_goal, distance: and what was found


class NicheModel(NamedTuple):
    """What the prompts of a run say about the niche; arrays, so that it can be kept as one `.npz` file without objects."""

    prompts: Array  # (m, dimensions) unit vectors of the training prompts
    non_goals: Array  # (k, dimensions) of `specialist.non_goals`
    distances: Array  # (h,) of other prompts of the niche to the training prompts, ascending
    probe: Array  # (dimensions,) of PROBE, by which another encoder is noticed
    longest: int  # characters of the longest training prompt

    def arrays(self) -> dict[str, Array]:
        """Return the fields for `numpy.savez`."""
        return {**self._asdict(), "longest": np.array(self.longest)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Array]) -> "NicheModel":
        """Return the model that `arrays` returned the fields of."""
        return cls(*(arrays[name] for name in ("prompts", "non_goals", "distances", "probe")), longest=int(arrays["longest"]))


def fit(training: Sequence[str], holdout: Sequence[str], specialist: Specialist, section: NicheCheck, embed: Embed) -> NicheModel:
    """Return the model of the niche of `training` prompts; distances are calibrated on the prompts of the `holdout`."""
    prompts = embed(training)
    non_goals = embed(specialist.non_goals) if specialist.non_goals else np.zeros((0, prompts.shape[1]))
    distances = np.sort(_distance(embed(holdout), prompts, section.neighbours)) if holdout else np.zeros(0)
    return NicheModel(prompts, non_goals, distances, embed([PROBE])[0], max(map(len, training)))


class Niche:
    """Checks requests, one text each."""

    def __init__(self, section: NicheCheck, languages: Sequence[str], model: NicheModel | None = None, embed: Embed | None = None):
        """Without `model` only rules and language are checked; without `embed` no distance."""
        self.section, self.languages, self.model, self.embed = section, languages, model, embed
        self.rules = [(rule, re.compile(rule.pattern)) for rule in section.rules]

    def check(self, text: str) -> Verdict:
        """Return whether `text` is inside the niche."""
        return self._words(text) or self._meaning(text) or Verdict(True)

    def reasons(self, texts: Sequence[str], calibrating: Array) -> list[str]:
        """Return why each text is outside; "" = it is inside.

        The distances of the `calibrating` ones (n,) are among the model's: each is compared with the others.
        """
        assert self.embed is not None, "without an encoder no text is compared"
        vectors = self.embed(texts)  # in batches: one by one takes several times as long
        found = []
        for text, vector, is_own in zip(texts, vectors, calibrating, strict=True):
            verdict = self._words(text) or self._far(vector[None], is_own=bool(is_own))
            found.append(verdict.reason if verdict else "")
        return found

    def _words(self, text: str) -> Verdict | None:
        for rule, pattern in self.rules:
            if bool(pattern.search(text)) != rule.inside:
                return Verdict(False, f"rule {rule.name}: the text {'does not match' if rule.inside else 'matches'}")
        return self._length(text) or self._language(text)

    def _length(self, text: str) -> Verdict | None:
        if self.section.longest is None or self.model is None:
            return None
        most = self.section.longest * self.model.longest
        return Verdict(False, f"length: {len(text)} characters, at most {most:.0f} are inside") if len(text) > most else None

    def _language(self, text: str) -> Verdict | None:
        prose = NO_TEXT.sub(" ", text).strip()
        if not self.section.languages or len(prose) < LEAST_CHARS:
            return None
        heard = hear(prose)
        expected = {code.lower().replace("_", "-").split("-")[0] for code in self.languages}
        if heard.close < SURE or heard.language in {*expected, NO_LANGUAGE}:
            return None
        return Verdict(False, f"language: {heard.language} ({heard.close:.2f}), expected {', '.join(sorted(expected))}")

    def _meaning(self, text: str) -> Verdict | None:
        if self.embed is None or not (self._uses_distance or self._uses_goals):
            return None
        return self._far(self.embed([text]))

    @property
    def _uses_distance(self) -> bool:
        least = 1 / self.section.false_alarms if self.section.false_alarms else np.inf
        return self.model is not None and len(self.model.distances) + 1 >= least

    @property
    def _uses_goals(self) -> bool:
        return self.model is not None and self.section.non_goals and len(self.model.non_goals) > 0

    def _far(self, vector: Array, *, is_own: bool = False) -> Verdict | None:
        model, section = self.model, self.section
        if model is None:
            return None
        if self._uses_goals and float((vector @ model.non_goals.T).max()) > float((vector @ model.prompts.T).max()):
            return Verdict(False, "non_goal: nearer to one of specialist.non_goals than to every training prompt")
        distance = float(_distance(vector, model.prompts, section.neighbours)[0])
        others = np.delete(model.distances, np.abs(model.distances - distance).argmin()) if is_own else model.distances
        p_value = p_of(distance, others)
        if self._uses_distance and p_value <= section.false_alarms:
            return Verdict(False, f"distance: {distance:.3f} from the training prompts (p = {p_value:.3g})")
        return None


def p_of(distance: float, distances: Array) -> float:
    """Return the conformal p-value of a distance: the share of `distances`, ascending, that are as large, itself counted."""
    farther = len(distances) - int(np.searchsorted(distances, distance, side="left"))
    return (1 + farther) / (1 + len(distances))


def _distance(vectors: Array, prompts: Array, neighbours: int) -> Array:
    """Return the mean over the nearest `prompts` of 1 - cosine, (n,)."""
    cosines = vectors @ prompts.T
    count = min(neighbours, prompts.shape[0])
    return 1 - np.partition(cosines, -count, axis=1)[:, -count:].mean(axis=1)
