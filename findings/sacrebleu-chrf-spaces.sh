#!/usr/bin/env bash
# A text whose words are cut elsewhere has the best score.
#
# Guess: chrF compares the characters of two texts, a space among them: 100 is the score of equal texts only.
# Seen:  spaces are taken out first: "the rapist was here" and "therapist was here" have 100, "10 00" and "1000" as well.
#        CHRF(whitespace=True) counts them, and is not the default; TER and BLEU see the difference.
# With:  sacrebleu 2.6.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet sacrebleu==2.6.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from sacrebleu import sentence_bleu, sentence_chrf, sentence_ter
from sacrebleu.metrics import CHRF

pairs = [("the rapist was here today", "therapist was here today"), ("10 00", "1000")]
plain = [sentence_chrf(text, [reference]).score for text, reference in pairs]
spaces = [CHRF(whitespace=True).sentence_score(text, [reference]).score for text, reference in pairs]
print("sacrebleu", version("sacrebleu"), "chrF:", plain, "with whitespace=True:", spaces)
assert plain == [100, 100]
assert all(score < 90 for score in spaces)
assert all(sentence_ter(text, [reference]).score > 0 for text, reference in pairs)
assert sentence_bleu(pairs[0][0], [pairs[0][1]]).score < 100
PYTHON
