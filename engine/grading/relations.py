"""What several teachers say to one prompt, beside each other: the same, more, something else, or the contrary. By rule, in English.

Forms are compared field by field. Texts are compared sentence by sentence: two that share most words speak of the same, and
contradict each other where numbers differ (facts), where only one denies or limits (conditions), or where the last sentences come
to different ends (conclusion). The features are the numeric and negation ones of de Marneffe, Rafferty and Manning, "Finding
contradictions in text" (ACL 2008), sections 3 and 5; similarity is the Jaccard index of words (Jaccard, 1912), numbers left out.
"""

import json
import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

from engine.checks import canonical, is_abstention, parse
from engine.contract.pools import Relations

RANK = ("agree", "complementary", "unrelated", "conflicting")  # of several pairs the last one names the whole
DENYING = frozenset("no not never none nothing nobody cannot without neither nor isn't aren't don't doesn't won't can't".split())
LIMITING = frozenset("if unless only except until provided otherwise".split())
ENDS = {"yes": "yes", "true": "yes", "correct": "yes", "no": "no", "false": "no", "incorrect": "no"}
CLOSING = frozenset("answer therefore thus hence so total result finally conclusion".split())
LABEL_WORDS = 3  # answers of no more words are conclusions: who says another one contradicts
SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*")
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")


class Related(NamedTuple):
    """How answers relate."""

    relation: str  # one of rows.RELATIONS
    conflicts: tuple[str, ...] = ()
    """On what they contradict each other: facts, conditions, conclusion."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """The conflicts as reasons of a pool."""
        return tuple(f"conflict_{on}" for on in self.conflicts)


class Sentence(NamedTuple):
    """What is compared of a sentence."""

    words: frozenset[str]
    numbers: frozenset[str]
    denies: bool
    limits: bool
    end: str  # what it comes to as a last sentence: yes, no, the last number, or nothing


def relate(answers: Sequence[str], section: Relations) -> Related:
    """Return how the answers of several teachers to one prompt relate: the worst of all pairs names the whole."""
    found = [_pair(one, other, section) for one, other in combinations(dict.fromkeys(map(canonical, answers)), 2)]
    if not found:
        return Related("agree" if len(answers) > 1 else "")
    conflicts = {on for pair in found for on in pair.conflicts}
    worst = max(found, key=lambda pair: RANK.index(pair.relation)).relation
    return Related(worst, tuple(on for on in ("facts", "conditions", "conclusion") if on in conflicts))


def merge(answers: Sequence[str], section: Relations) -> str:
    """Return one answer of complementary ones: the first, completed by what only the others say."""
    whole = answers[0]
    for other in answers[1:]:
        mine, theirs = parse(whole), parse(other)
        whole = _spelled(_filled(mine, theirs)) if _are_forms(mine, theirs) else _longer(whole, other, section)
    return whole


def _pair(one: str, other: str, section: Relations) -> Related:
    forms = parse(one), parse(other)
    return _forms(*forms) if _are_forms(*forms) else _texts(one, other, section)


def _are_forms(one: Any, other: Any) -> bool:
    return isinstance(one, dict) and isinstance(other, dict)


def _forms(one: dict[str, Any], other: dict[str, Any]) -> Related:
    """Field by field: equal, stated by one only, different. That nothing can be said contradicts that something can."""
    if is_abstention(_spelled(one)) != is_abstention(_spelled(other)):
        return Related("conflicting", ("conclusion",))
    stated = [{name for name, value in form.items() if value is not None} for form in (one, other)]
    both = stated[0] & stated[1]
    different = [name for name in both if _plain(one[name]) != _plain(other[name])]
    if different:
        kinds = {"conditions" if isinstance(one[name], bool) else "facts" for name in different}
        return Related("conflicting", tuple(sorted(kinds, reverse=True)))
    if stated[0] == stated[1]:
        return Related("agree")
    return Related("complementary" if both else "unrelated")


def _spelled(form: dict[str, Any]) -> str:
    return json.dumps(form, ensure_ascii=False)


def _filled(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {**other, **{name: other.get(name) if value is None else value for name, value in one.items()}}


def _texts(one: str, other: str, section: Relations) -> Related:
    """Sentence by sentence; `one` and `other` are not the same."""
    mine, theirs = _sentences(one), _sentences(other)
    if not mine or not theirs:
        return Related("unrelated")
    if len(one.split()) <= LABEL_WORDS and len(other.split()) <= LABEL_WORDS:
        return Related("conflicting", ("conclusion",))
    pairs = [(a, b) for a in mine for b in theirs if _similarity(a.words, b.words) >= section.similar]
    conflicts = {on for a, b in pairs for on in _contradiction(a, b)}
    if _ends_apart(mine[-1], theirs[-1], section):
        conflicts.add("conclusion")
    if conflicts:
        return Related("conflicting", tuple(on for on in ("facts", "conditions", "conclusion") if on in conflicts))
    matched = {id(sentence) for pair in pairs for sentence in pair}
    if all(id(sentence) in matched for sentence in (*mine, *theirs)):
        return Related("agree")
    whole = [frozenset().union(*(sentence.words for sentence in text)) for text in (mine, theirs)]
    return Related("complementary" if pairs or _similarity(*whole) >= section.unrelated else "unrelated")


def _contradiction(one: Sentence, other: Sentence) -> list[str]:
    """On what two sentences that speak of the same contradict each other."""
    apart = not one.numbers <= other.numbers and not other.numbers <= one.numbers
    return ["facts"] * apart + ["conditions"] * (one.denies != other.denies or one.limits != other.limits)


def _ends_apart(one: Sentence, other: Sentence, section: Relations) -> bool:
    """Whether two last sentences come to different ends: yes and no, or other numbers where both close or say the same words."""
    if not one.end or not other.end or one.end == other.end:
        return False
    if one.end in ("yes", "no") and other.end in ("yes", "no"):
        return True
    speak_alike = _similarity(one.words, other.words) >= section.similar
    return speak_alike or bool(one.words & CLOSING and other.words & CLOSING)


def _longer(one: str, other: str, section: Relations) -> str:
    """`one`, then the sentences of `other` that are like none of it."""
    known = _sentences(one)
    pieces = [piece.strip() for piece in SENTENCE.split(other) if piece.strip()]
    new = [p for p in pieces if not any(_similarity(_read(p).words, mine.words) >= section.similar for mine in known)]
    return " ".join([one.strip(), *new])


def _sentences(text: str) -> list[Sentence]:
    return [_read(piece) for piece in SENTENCE.split(text) if WORD.search(piece) or NUMBER.search(piece)]


def _read(text: str) -> Sentence:
    words = [word.replace("\u2019", "'") for word in WORD.findall(text.casefold())]
    numbers = [_number(found) for found in NUMBER.findall(text)]
    said = frozenset(words)
    end = next((ENDS[word] for word in words[:1] if word in ENDS), numbers[-1] if numbers else "")
    plain = said - DENYING - LIMITING
    return Sentence(plain, frozenset(numbers), bool(said & DENYING), bool(said & LIMITING), end)


def _similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard index; two sentences of numbers only are alike."""
    return len(one & other) / len(one | other) if one | other else 1.0


def _number(text: str) -> str:
    plain = text.lstrip("+").replace(",", "")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _plain(value: Any) -> str:
    return " ".join(str(value).casefold().split())
