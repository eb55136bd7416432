"""The language of an answer."""

from functools import cache
from typing import Any

from engine.checks.result import CheckInput, CheckResult, prose, result
from engine.contract.checks import Language

NO_LANGUAGE = "zxx"  # ISO 639: numbers, code


def check_language(inputs: CheckInput, check: Language) -> CheckResult:
    """Pass unless another language has a probability of `min_probability` or more (py3langid; Lui and Baldwin, 2012)."""
    text = prose(inputs.answer).strip()
    if len(text) < check.min_chars:
        return result(check.type, "")
    allowed = check.allowed if check.allowed != "prompt" else (inputs.language or detect_language(inputs.text)[0],)
    language, probability = detect_language(text)
    is_other = language not in (*allowed, NO_LANGUAGE) and probability >= check.min_probability
    return result(check.type, "off_language" if is_other else "", f"{language} ({probability:.2f}), expected {', '.join(allowed)}")


def detect_language(text: str) -> tuple[str, float]:
    """Return the most probable language of `text` (ISO 639 code) and its probability."""
    language, probability = _identifier().classify(text)
    return language, float(probability)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
