"""The teachers' distributions at an example's target, laid on the student's tokens by the bytes of the text.

Where a token of the student begins and ends with one of the teacher, its distribution is the teacher's. Where one token of the
student covers several of the teacher, the probability of the text is the product of theirs, and all other mass is tail. Where one
token of the teacher covers several of the student (a vocabulary that was cut), each of them has the teacher's words that begin as
the text does so far. Any other token is gated off. GOLD (TRL 5885) aligns by bytes, too. Boizard et al., "Towards
cross-tokenizer distillation" (2024), compares sorted probabilities, which needs no alignment of words but does not say which word
is meant: objective `uld`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.capture.compact import Entries, probabilities, unpack
from engine.capture.schemas import COPY
from engine.records.capture import CaptureMetrics
from engine.rows import Row
from engine.students.data.captured import Captured
from engine.students.data.vocabulary_map import VocabularyMap

LEAST = 1e-9  # probabilities below it are 0


class Words(NamedTuple):
    """One distribution in the student's tokens."""

    probs: dict[int, float]
    tail: float
    agrees: bool  # whether the teacher's first choice is the target


class Scored(NamedTuple):
    """One teacher's distributions at the target of an example."""

    stored: Entries
    probs: np.ndarray
    tails: np.ndarray

    def entries(self, token: int) -> Iterator[tuple[int, float]]:
        """Yield the words of a token with their probabilities."""
        part = slice(self.stored.starts[token], self.stored.starts[token + 1])
        return zip(self.stored.ids[part].tolist(), self.probs[part].tolist(), strict=True)

    def own(self, token: int) -> float:
        """Return the probability of the target's own word."""
        return float(self.probs[self.stored.starts[token] + self.stored.ranks[token]])


def laid(
    rows: pa.Table,
    words: pa.Table,
    metrics: CaptureMetrics,
    targets: Mapping[str, Sequence[int]],
    tokenizer: Any,
    *,
    end: int | None = None,
) -> Captured:
    """Return the distributions of the CAPTURE `rows`, which fit in memory, and their VOCABULARY at `targets`: example_id -> its
    tokens of the student; see `Aligner`. `end` ends the student's turns; by default it is the last token of the first target."""
    end = next((target[-1] for target in targets.values() if target), -1) if end is None else end
    aligner, scored = Aligner(words, metrics, tokenizer, end), by_example(rows.to_pylist())
    found = [_flat([], agree=False)]
    found += [aligner.example(scored.get(captured_as(name), {}), target) for name, target in targets.items()]
    counts = np.concatenate([np.diff(each.starts) for each in found])
    columns = {name: np.concatenate([getattr(each, name) for each in found]) for name in ("ids", "logprobs", "tail", "gate")}
    return Captured(starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), **columns)


class Aligner:
    """Lays what the teachers of a capture scored on the tokens of one student's tokenizer."""

    def __init__(self, words: pa.Table, metrics: CaptureMetrics, tokenizer: Any, end: int) -> None:
        """`words` are the capture's VOCABULARY rows, `end` is the last token of the student's targets."""
        by_teacher = {name: words.filter(pc.equal(words["teacher"], name)) for name in metrics.teachers}
        self.maps = {name: VocabularyMap(rows, tokenizer, end) for name, rows in by_teacher.items()}
        self.weights = {name: 1.0 if each.weight is None else each.weight for name, each in metrics.teachers.items()}
        self.agree = metrics.gate == "agree"

    def example(self, rows: Mapping[str, Row], target: Sequence[int]) -> Captured:
        """Return the distributions at the tokens `target` of an example from its `rows`: teacher -> CAPTURE row.

        Several teachers are mixed by their weights, each token over those that scored it. A token without a distribution has no
        words, all its mass is tail, and its gate is shut; so is that of a token whose teacher disagrees, if the contract says
        `gate: agree`.
        """
        found: list[tuple[float, list[Words | None]]] = []
        for teacher, words in self.maps.items():
            if teacher in rows:
                stored = unpack(rows[teacher])
                found.append((self.weights[teacher], aligned(Scored(stored, *probabilities(stored)), target, words)))
        mixture = [mixed([(weight, each[token]) for weight, each in found], own) for token, own in enumerate(target)]
        return _flat(mixture, agree=self.agree)  # at once: as Python objects it is ten times as large


def by_example(rows: Iterable[Row]) -> dict[str, dict[str, Row]]:
    """Return example_id -> teacher -> row of the CAPTURE `rows` that were scored."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row["finish_reason"] == "stop":
            found.setdefault(row["example_id"], {})[row["teacher"]] = row
    return found


def captured_as(example_id: str) -> str:
    """Return under which id an example was captured: copies share a row."""
    return re.sub(COPY, "", example_id)


def aligned(scored: Scored, target: Sequence[int], words: VocabularyMap) -> list[Words | None]:
    """Return the distribution at each of the student's tokens `target`; None where there is none."""
    theirs = scored.stored.targets.tolist()
    text, mine = b"".join(words.text[word] for word in theirs), words.spelled_out(target)
    lead = 0 if text.startswith(mine.rstrip()) else len(text) - len(text.lstrip())  # SentencePiece's space before the first word
    if text[lead:].rstrip() != mine.rstrip():  # what a template writes between text and mark is white space
        return [None] * len(target)
    ends_alike = text[lead:] == mine and theirs[-1] in words.ends
    ends = np.maximum(np.cumsum([len(words.text[word]) for word in theirs]) - lead, 0).tolist()
    begins = {begin: at for at, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)) if end > begin}
    finishes = {end: at for at, end in enumerate(ends[:-1])}
    result: list[Words | None] = []
    inside: tuple[int, list[int]] | None = None  # the teacher's token, and those of the student that it has given so far
    position = 0
    for token, length in zip(target, words.lengths(target), strict=True):
        begin, position = position, position + length
        if token in words.special:
            is_end = ends_alike and begin == len(mine) and token == words.end and len(target) == len(result) + 1
            result.append(spelled(scored, len(theirs) - 1, (), words) if is_end else None)
            continue
        if begin in begins:
            inside = (begins[begin], [])
        if inside and position <= ends[inside[0]]:
            result.append(spelled(scored, inside[0], tuple(inside[1]), words, own=token))
            inside = (inside[0], [*inside[1], token]) if position < ends[inside[0]] else None
        else:
            inside = None
            both = begin in begins and position in finishes
            result.append(product(scored, range(begins[begin], finishes[position] + 1), token) if both else None)
    return result


def spelled(scored: Scored, at: int, before: tuple[int, ...], words: VocabularyMap, *, own: int | None = None) -> Words | None:
    """Return the student's next token within the teacher's token `at`, of which it has written the tokens `before`.

    The mass of a word counts for the token with which the student goes on to write it, given that it has begun with `before`; a
    word without one counts as tail. None if the target's own word is spelled otherwise than the target.
    """
    probs: dict[int, float] = {}
    tail = float(scored.tails[at])
    for word, prob in scored.entries(at):
        pieces = words.of(word)
        if pieces[: len(before)] != before:
            continue
        if len(pieces) > len(before):
            piece = pieces[len(before)]
            probs[piece] = probs.get(piece, 0.0) + prob
        else:
            tail += prob
    if own is not None and own not in probs:
        return None
    total = sum(probs.values()) + tail
    return Words({token: prob / total for token, prob in probs.items()}, tail / total, bool(scored.stored.ranks[at] == 0))


def product(scored: Scored, tokens: range, own: int) -> Words:
    """Return the distribution over the student's token `own`, which covers the teacher's `tokens`, and all others as tail."""
    prob = float(np.prod([scored.own(at) for at in tokens]))
    return Words({own: prob}, 1.0 - prob, all(scored.stored.ranks[at] == 0 for at in tokens))


def mixed(parts: Sequence[tuple[float, Words | None]], own: int) -> Words | None:
    """Return the mixture of the weighted distributions that are there; its first choice decides whether it agrees with `own`."""
    there = [(weight, words) for weight, words in parts if words is not None]
    if len(there) < 2:
        return there[0][1] if there else None
    total = sum(weight for weight, _ in there)
    probs: dict[int, float] = {}
    for weight, words in there:
        for token, prob in words.probs.items():
            probs[token] = probs.get(token, 0.0) + weight / total * prob
    tail = sum(weight / total * words.tail for weight, words in there)
    return Words(probs, tail, max(probs, key=lambda token: probs[token], default=-1) == own)


def _flat(tokens: Sequence[Words | None], *, agree: bool) -> Captured:
    ranked = [sorted(words.probs.items(), key=lambda item: -item[1]) if words else [] for words in tokens]
    with np.errstate(divide="ignore"):
        tails = np.log(np.asarray([words.tail if words and words.tail > LEAST else 0.0 for words in tokens], np.float64))
        logprobs = np.log(np.maximum(np.asarray([prob for each in ranked for _, prob in each], np.float64), LEAST))
    tails[[words is None for words in tokens]] = 0.0
    return Captured(
        starts=np.cumsum([0, *(len(each) for each in ranked)], dtype=np.int64),
        ids=np.asarray([token for each in ranked for token, _ in each], np.int32),
        logprobs=logprobs.astype(np.float32),
        tail=tails.astype(np.float32),
        gate=np.asarray([words is not None and (words.agrees or not agree) for words in tokens], bool),
    )
