"""The language of an answer."""

import re
from functools import cache
from typing import Any, NamedTuple

from engine.checks.result import CheckInput, CheckResult, passed, prose, result
from engine.contract.checks import LANGUAGES, Language

NO_LANGUAGE = "zxx"  # ISO 639: numbers, code
SURE = 0.9  # probability of a language from which a prompt, or a short answer, is in it
UNLIKELY = 0.1  # probability of the expected languages up to which another language is heard
SHORT_CHARS = 100  # a shorter answer is heard only where the language is sure
CLOSE = "no nb nn, zh yue wuu, ar arz ary, hr sr bs, id ms ace, az crh, en pcm, fr gcf gcr, ku sdh, uz uzs".split(", ")
"""Languages that one word stands for (macrolanguages of ISO 639-3), or that the detector takes for each other."""
NO_TEXT = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|\\\[.{0,999}?\\\]|\$\$.{0,999}?\$\$", re.DOTALL
)  # code, addresses, formulas


class Heard(NamedTuple):
    """The most probable language of a text."""

    language: str  # ISO 639 code
    probability: float
    probabilities: dict[str, float]

    @property
    def close(self) -> float:
        """Probability of the language and of those that are close to it."""
        return sum(self.probabilities.get(code, 0) for code in _close(self.language))


def check_language(inputs: CheckInput, check: Language) -> CheckResult:
    """Pass unless another language has a probability of `min_probability` or more (py3langid; Lui and Baldwin, 2012).

    Where the language of the prompt or of the answer is not sure, the answer passes, and the result has the note `language_unsure`.
    """
    text = NO_TEXT.sub(" ", prose(inputs.answer)).strip()
    if len(text) < check.min_chars:
        return result(check.type, "")
    allowed = _prompt_language(inputs) if check.allowed == "prompt" else check.allowed
    if not allowed:
        return passed(check.type, f"language_unsure: of the prompt {inputs.language or inputs.text!r:.60}")
    heard, allowed_codes = hear(text), {code for name in allowed for code in _close(name)}
    if heard.language in {*allowed_codes, NO_LANGUAGE}:
        return result(check.type, "")
    detail = f"{heard.language} ({heard.probability:.2f}), expected {', '.join(allowed)}"
    is_sure = heard.close >= (max(SURE, check.min_probability) if len(text) < SHORT_CHARS else check.min_probability)
    if is_sure and sum(heard.probabilities.get(code, 0) for code in allowed_codes) <= UNLIKELY:
        return result(check.type, "off_language", detail)
    return passed(check.type, f"language_unsure: of the answer: {detail}")


def hear(text: str) -> Heard:
    """Return the most probable language of `text`, and the probability of each language."""
    probabilities = {language: float(probability) for language, probability in _identifier().rank(text)}
    language = max(probabilities, key=probabilities.__getitem__)
    return Heard(language, probabilities[language], probabilities)


def _prompt_language(inputs: CheckInput) -> tuple[str, ...]:
    """Return the language that the source states for a prompt, or that is sure in its text; () if neither."""
    if inputs.language:
        code = re.split("[-_]", inputs.language.strip().lower())[0]
        return (code,) if code in LANGUAGES or len(_close(code)) > 1 else ()
    heard = hear(NO_TEXT.sub(" ", inputs.text).strip())
    return (heard.language,) if heard.close >= SURE and heard.language != NO_LANGUAGE else ()


def _close(language: str) -> set[str]:
    return {language, *(name for names in CLOSE if language in names.split() for name in names.split())}


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
