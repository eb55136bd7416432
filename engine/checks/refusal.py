"""An answer that refuses where it must not, or does not where it must; and words that must not be said."""

from engine.checks.grounded import occurs, plain
from engine.checks.outcome import Outcome, Seen, is_abstention, outcome, said
from engine.checks.reference import reference
from engine.contract.checks import Policy, Refusal

BEGINNING = 200  # characters in which a refusal says that it is one


def check_refusal(seen: Seen, check: Refusal) -> Outcome:
    """Pass if the answer is a refusal exactly where the scenario or the reference says that it must be one."""
    must = seen.scenario in check.scenarios
    if check.reference:
        given = reference(seen, check.reference, check.type)
        if given.lacks:
            return given.lacks
        must = is_refusal(given.text, check)
    does = is_refusal(seen.answer, check)
    return outcome(check.type, "" if does == must else "refused" if does else "not_refused", seen.answer)


def is_refusal(answer: str, check: Refusal) -> bool:
    """Return whether `answer` is a form of nulls or begins like a refusal; an apostrophe may be curved."""
    beginning = answer[:BEGINNING].replace("\u2019", "'")
    return is_abstention(answer) or any(occurs(phrase, beginning) for phrase in check.phrases)


def check_policy(seen: Seen, check: Policy) -> Outcome:
    """Pass if no barred word or phrase stands in the answer as whole words."""
    text = plain(said(seen.answer))
    barred = [word for word in check.bar if occurs(word, text)]
    return outcome(check.type, "barred_word" if barred else "", ", ".join(barred))
