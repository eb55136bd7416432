"""The language of an answer."""

from functools import cache
from typing import Any

from engine.checks.outcome import Outcome, Seen, outcome, said
from engine.contract.checks import Language


def check_language(seen: Seen, check: Language) -> Outcome:
    """Pass if no language but the wanted ones is heard with a probability of `sure` or more (py3langid; Lui and Baldwin, 2012)."""
    text = said(seen.answer).strip()
    if len(text) < check.least_chars:
        return outcome(check.type, "")
    wanted = check.of if check.of != "prompt" else (seen.language or heard(seen.text)[0],)
    language, probability = heard(text)
    is_other = language not in (*wanted, NONE) and probability >= check.sure
    return outcome(check.type, "off_language" if is_other else "", f"{language} ({probability:.2f}), expected {', '.join(wanted)}")


NONE = "zxx"  # no language at all: numbers, code


def heard(text: str) -> tuple[str, float]:
    """Return the most probable language of `text`, as ISO 639 writes it, and its probability."""
    language, probability = _identifier().classify(text)
    return language, float(probability)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
