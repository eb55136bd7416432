#!/usr/bin/env bash
# ROUGE of two equal texts is 0 if they are not written in Latin letters.
#
# Guess:a text compared with itself has ROUGE 1, in any language.
# Seen: the default tokenizer keeps a to z and digits only: equal texts in Chinese, Hindi or Russian score 0, and what it
#       drops makes different texts equal (-5 and 5; resume with accents and without the letters that carry them). No warning.
# With:  rouge-score 0.1.2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet rouge-score==0.1.2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from rouge_score.rouge_scorer import RougeScorer

scorer = RougeScorer(["rouge1", "rougeL"])


def same(text: str, other: str) -> list[float]:
    return [float(score.fmeasure) for score in scorer.score(text, other).values()]


texts = {
    "English": "the red box",
    "Russian": "\u043a\u0440\u0430\u0441\u043d\u0430\u044f \u043a\u043e\u0440\u043e\u0431\u043a\u0430",
    "Chinese": "\u7ea2\u8272\u7684\u76d2\u5b50",
    "Hindi": "\u0932\u093e\u0932 \u0921\u093f\u092c\u094d\u092c\u093e",
}
found = {language: same(text, text) for language, text in texts.items()}
signs, accents = same("-5", "5"), same("r\u00e9sum\u00e9", "r sum")
print("rouge-score", version("rouge-score"), "a text and itself:", found)
print("-5 and 5:", signs, "resume with accents and 'r sum':", accents)
assert found == {"English": [1, 1], "Russian": [0, 0], "Chinese": [0, 0], "Hindi": [0, 0]}
assert signs == accents == [1, 1]
PYTHON
