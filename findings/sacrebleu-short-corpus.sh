#!/usr/bin/env bash
# BLEU of a corpus of short answers is 0, however right they are.
#
# Guess:a corpus that equals its references has BLEU 100, as each of its sentences has.
# Seen: corpus_bleu of answers with fewer than four tokens each is 0.0, though sentence_bleu of each is 100: only the latter
#       leaves out the orders that no text has (effective_order). One longer answer among them, and the same corpus has 100.
# With:  sacrebleu 2.6.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet sacrebleu==2.6.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import sacrebleu

short, longer = ["yes", "the red box", "not yet"], "we will send it on Monday"
corpus = sacrebleu.corpus_bleu(short, [short]).score
sentences = [round(sacrebleu.sentence_bleu(text, [text]).score, 6) for text in short]
mixed = sacrebleu.corpus_bleu([*short, longer], [[*short, longer]]).score
print("sacrebleu", version("sacrebleu"), "equal texts: corpus", corpus, "sentences", sentences, "with a longer one", mixed)
assert corpus == 0.0
assert sentences == [100.0, 100.0, 100.0]
assert round(mixed, 6) == 100.0
PYTHON
