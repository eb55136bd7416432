"""The answer does not repeat itself, and does not leak its instructions."""

import re
from collections.abc import Sequence

from engine.checks.result import CheckInput, CheckResult, prose, result
from engine.contract.checks import LeakedPrompt, Repetition

WORD = re.compile(r"\w+")


def check_repetition(inputs: CheckInput, check: Repetition) -> CheckResult:
    """Pass if at most `max_share` of n-grams are repetitions: 1 - distinct / all (seq-rep-n: Welleck et al., 2020, section 6)."""
    text = prose(inputs.answer).casefold()
    grams = ngrams(WORD.findall(text) if check.unit == "word" else list("".join(text.split())), check.ngram)
    share = (len(grams) - len(set(grams))) / len(grams) if grams else 0.0
    return result(check.type, "repetitive" if share > check.max_share else "", f"{share:.2f} of {len(grams)} {check.ngram}-grams")


def check_leaked_prompt(inputs: CheckInput, check: LeakedPrompt) -> CheckResult:
    """Pass if the answer shares no run of `min_words` words with an instruction, except those that the user wrote too."""
    answer, prompt = WORD.findall(prose(inputs.answer).casefold()), WORD.findall(inputs.text.casefold())
    for instruction in (*inputs.instructions, *check.texts):
        words = WORD.findall(instruction.casefold())
        size = min(check.min_words, len(words))
        if size and (leaked := {*ngrams(words, size)} & {*ngrams(answer, size)} - {*ngrams(prompt, size)}):
            return result(check.type, "leaked_prompt", " ".join(min(leaked)))
    return result(check.type, "")


def ngrams(items: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Return all runs of `size` items."""
    return [tuple(items[start : start + size]) for start in range(len(items) - size + 1)]
