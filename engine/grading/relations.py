"""How the answers of several teachers to one prompt relate: agree, complement, contradict, or have nothing in common. English only.

JSON objects are compared field by field. Texts are compared sentence by sentence: two sentences that share most words are about
the same thing, and contradict each other where numbers differ (facts), where only one negates or limits (conditions), or where
the last sentences conclude differently (conclusion). The features are the numeric and negation ones of de Marneffe, Rafferty and
Manning, "Finding contradictions in text" (ACL 2008), sections 3 and 5; similarity is the Jaccard index of words without numbers.
"""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from engine.checks import canonical, is_abstention, parse
from engine.contract.pools import Relations

SEVERITY = ("agree", "complementary", "unrelated", "conflicting")  # of several pairs the most severe one counts
ASPECTS = ("facts", "conditions", "conclusion")  # of a conflict
NEGATIONS = frozenset("no not never none nothing nobody cannot without neither nor isn't aren't don't doesn't won't can't".split())
LIMITATIONS = frozenset("if unless only except until provided otherwise".split())
VERDICTS = {"yes": "yes", "true": "yes", "correct": "yes", "no": "no", "false": "no", "incorrect": "no"}
CONCLUDING = frozenset("answer therefore thus hence so total result finally conclusion".split())
LABEL_WORDS = 3  # answers of at most so many words are labels: two different ones contradict each other
SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*")
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")

Fields = Mapping[str, object]  # an answer that is a JSON object


class Relation(NamedTuple):
    """How answers relate."""

    relation: str  # one of rows.RELATIONS
    conflicts: tuple[str, ...] = ()  # aspects in which they contradict each other, some of ASPECTS

    @property
    def reasons(self) -> tuple[str, ...]:
        """The conflicts as reasons of a pool."""
        return tuple(f"conflict_{aspect}" for aspect in self.conflicts)


class Sentence(NamedTuple):
    """Features of a sentence."""

    words: frozenset[str]  # without negations and limitations
    numbers: frozenset[str]
    is_negated: bool
    is_limited: bool
    conclusion: str  # as a last sentence: yes, no, the last number, or ""


def relate(answers: Sequence[str], section: Relations) -> Relation:
    """Return how the answers of several teachers to one prompt relate: the most severe relation of all pairs."""
    pairs = [_pair(first, second, section) for first, second in combinations(dict.fromkeys(map(canonical, answers)), 2)]
    if not pairs:
        return Relation("agree" if len(answers) > 1 else "")
    conflicts = {aspect for pair in pairs for aspect in pair.conflicts}
    return Relation(max((pair.relation for pair in pairs), key=SEVERITY.index), _ordered(conflicts))


def merge(answers: Sequence[str], section: Relations) -> str:
    """Return one answer made of complementary ones: the first, completed by fields or sentences that only the others have."""
    merged = answers[0]
    for second in answers[1:]:
        mine, theirs = parse(merged), parse(second)
        merged = _to_json(_filled(mine, theirs)) if _are_objects(mine, theirs) else _extended(merged, second, section)
    return merged


def _pair(first: str, second: str, section: Relations) -> Relation:
    parsed = parse(first), parse(second)
    return _objects(*parsed) if _are_objects(*parsed) else _texts(first, second, section)


def _ordered(conflicts: set[str]) -> tuple[str, ...]:
    return tuple(aspect for aspect in ASPECTS if aspect in conflicts)


def _are_objects(first: object, second: object) -> bool:
    return isinstance(first, dict) and isinstance(second, dict)


def _objects(first: Fields, second: Fields) -> Relation:
    """Compare field by field; an abstention contradicts an answer."""
    if is_abstention(_to_json(first)) != is_abstention(_to_json(second)):
        return Relation("conflicting", ("conclusion",))
    stated = [{name for name, value in fields.items() if value is not None} for fields in (first, second)]
    both = stated[0] & stated[1]
    different = [name for name in both if _normalized(first[name]) != _normalized(second[name])]
    if different:
        return Relation("conflicting", _ordered({"conditions" if isinstance(first[name], bool) else "facts" for name in different}))
    if stated[0] == stated[1]:
        return Relation("agree")
    return Relation("complementary" if both else "unrelated")


def _to_json(fields: Fields) -> str:
    return json.dumps(fields, ensure_ascii=False)


def _filled(first: Fields, second: Fields) -> Fields:
    return {**second, **{name: second.get(name) if value is None else value for name, value in first.items()}}


def _texts(first: str, second: str, section: Relations) -> Relation:
    """Compare two different texts sentence by sentence."""
    mine, theirs = _sentences(first), _sentences(second)
    if not mine or not theirs:
        return Relation("unrelated")
    if len(first.split()) <= LABEL_WORDS and len(second.split()) <= LABEL_WORDS:
        return Relation("conflicting", ("conclusion",))
    pairs = [(a, b) for a in mine for b in theirs if _similarity(a.words, b.words) >= section.similar]
    conflicts = {aspect for a, b in pairs for aspect in _contradictions(a, b)}
    if _conclude_differently(mine[-1], theirs[-1], section):
        conflicts.add("conclusion")
    if conflicts:
        return Relation("conflicting", _ordered(conflicts))
    matched = {id(sentence) for pair in pairs for sentence in pair}
    if all(id(sentence) in matched for sentence in (*mine, *theirs)):
        return Relation("agree")
    vocabularies = [frozenset().union(*(sentence.words for sentence in text)) for text in (mine, theirs)]
    return Relation("complementary" if pairs or _similarity(*vocabularies) >= section.unrelated else "unrelated")


def _contradictions(first: Sentence, second: Sentence) -> list[str]:
    """Return the aspects in which two sentences about the same thing contradict each other."""
    numbers_differ = not first.numbers <= second.numbers and not second.numbers <= first.numbers
    conditions_differ = first.is_negated != second.is_negated or first.is_limited != second.is_limited
    return ["facts"] * numbers_differ + ["conditions"] * conditions_differ


def _conclude_differently(first: Sentence, second: Sentence, section: Relations) -> bool:
    """Return whether two last sentences say yes and no, or other numbers where both conclude or share most words."""
    if not first.conclusion or not second.conclusion or first.conclusion == second.conclusion:
        return False
    if first.conclusion in ("yes", "no") and second.conclusion in ("yes", "no"):
        return True
    is_same_topic = _similarity(first.words, second.words) >= section.similar
    return is_same_topic or bool(first.words & CONCLUDING and second.words & CONCLUDING)


def _extended(first: str, second: str, section: Relations) -> str:
    """Return `first`, then the sentences of `second` that resemble none of it."""
    mine = _sentences(first)
    pieces = [piece.strip() for piece in SENTENCE.split(second) if piece.strip()]
    new = [p for p in pieces if not any(_similarity(_features(p).words, sentence.words) >= section.similar for sentence in mine)]
    return " ".join([first.strip(), *new])


def _sentences(text: str) -> list[Sentence]:
    return [_features(piece) for piece in SENTENCE.split(text) if WORD.search(piece) or NUMBER.search(piece)]


def _features(sentence: str) -> Sentence:
    words = [word.replace("\u2019", "'") for word in WORD.findall(sentence.casefold())]
    numbers = [_number(digits) for digits in NUMBER.findall(sentence)]
    unique = frozenset(words)
    conclusion = next((VERDICTS[word] for word in words[:1] if word in VERDICTS), numbers[-1] if numbers else "")
    plain = unique - NEGATIONS - LIMITATIONS
    return Sentence(plain, frozenset(numbers), bool(unique & NEGATIONS), bool(unique & LIMITATIONS), conclusion)


def _similarity(first: frozenset[str], second: frozenset[str]) -> float:
    """Return the Jaccard index; 1 for two sentences without words."""
    return len(first & second) / len(first | second) if first | second else 1.0


def _number(text: str) -> str:
    plain = text.lstrip("+").replace(",", "")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _normalized(value: object) -> str:
    return " ".join(str(value).casefold().split())
