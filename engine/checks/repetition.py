"""An answer that says the same over and over, or says what it was told."""

import re
from collections.abc import Sequence

from engine.checks.outcome import Outcome, Seen, outcome, said
from engine.contract.checks import LeakedPrompt, Repetition

WORD = re.compile(r"\w+")


def check_repetition(seen: Seen, check: Repetition) -> Outcome:
    """Pass if at most `share` of the n-grams are repetitions: 1 - distinct / all (seq-rep-n: Welleck et al., 2020, section 6)."""
    text = said(seen.answer).casefold()
    grams = ngrams(WORD.findall(text) if check.unit == "word" else list("".join(text.split())), check.ngram)
    share = (len(grams) - len(set(grams))) / len(grams) if grams else 0.0
    return outcome(check.type, "repetitive" if share > check.share else "", f"{share:.2f} of {len(grams)} {check.ngram}-grams")


def check_leaked_prompt(seen: Seen, check: LeakedPrompt) -> Outcome:
    """Pass if the answer shares no run of `words` words with what the model was told, but for what the user wrote too."""
    answer, asked = WORD.findall(said(seen.answer).casefold()), WORD.findall(seen.text.casefold())
    for told in (*seen.told, *check.texts):
        words = WORD.findall(told.casefold())
        size = min(check.words, len(words))
        if size and (leaked := {*ngrams(words, size)} & {*ngrams(answer, size)} - {*ngrams(asked, size)}):
            return outcome(check.type, "leaked_prompt", " ".join(min(leaked)))
    return outcome(check.type, "")


def ngrams(items: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Return all runs of `size` items."""
    return [tuple(items[start : start + size]) for start in range(len(items) - size + 1)]
