"""The answer refuses exactly where it must; and it contains no banned word."""

from engine.checks.grounded import normalize, occurs
from engine.checks.reference import resolve_reference
from engine.checks.result import CheckInput, CheckResult, is_abstention, prose, result
from engine.contract.checks import Policy, Refusal

BEGINNING = 200  # characters in which the phrases of a refusal are searched


def check_refusal(inputs: CheckInput, check: Refusal) -> CheckResult:
    """Pass if the answer is a refusal exactly where the scenario or the reference demands one."""
    expected = inputs.scenario in check.scenarios
    if check.reference:
        reference = resolve_reference(inputs, check.reference, check.type)
        if reference.missing:
            return reference.missing
        expected = is_refusal(reference.text, check)
    actual = is_refusal(inputs.answer, check)
    return result(check.type, "" if actual == expected else "refused" if actual else "not_refused", inputs.answer)


def is_refusal(answer: str, check: Refusal) -> bool:
    """Return whether `answer` is a form of nulls or begins with a phrase of refusal; apostrophes may be typographic."""
    beginning = answer[:BEGINNING].replace("\u2019", "'")
    return is_abstention(answer) or any(occurs(phrase, beginning) for phrase in check.phrases)


def check_policy(inputs: CheckInput, check: Policy) -> CheckResult:
    """Pass if no banned word or phrase occurs in the answer as whole words."""
    text = normalize(prose(inputs.answer))
    banned = [word for word in check.banned if occurs(word, text)]
    return result(check.type, "barred_word" if banned else "", ", ".join(banned))
