#!/usr/bin/env bash
# A Unigram tokenizer finds the special token again that it was told to split.
#
# Guess: with split_special_tokens=True the text "a</s>" (</s> ends struck-out text in HTML) is spelled out, as the option's
#        description shows.
# Seen:  a Unigram model has </s> as a piece with the best score there is, 0, so that "a</s>" ends with the id of </s>, with the
#        option and without. A BPE model, trained alike, spells it out.
# With:  transformers 5.19.0, tokenizers 0.23.3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.19.0 tokenizers==0.23.3
"$folder/venv/bin/python" - <<'PYTHON'
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

OPTIONS = {"vocab_size": 60, "special_tokens": ["<unk>", "</s>"], "show_progress": False}
KINDS = [
    (models.Unigram(), trainers.UnigramTrainer(unk_token="<unk>", **OPTIONS)),
    (models.BPE(unk_token="<unk>"), trainers.BpeTrainer(**OPTIONS)),
]
seen = []
for model, trainer in KINDS:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(["a cat sat on a mat", "1 < 2 / 3 > 0 s"], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")
    ids = [fast("a</s>", split_special_tokens=split)["input_ids"] for split in (False, True)]
    seen.append([fast.eos_token_id in row for row in ids])
    print(type(model).__name__, [fast.convert_ids_to_tokens(row) for row in ids])
assert seen == [[True, True], [True, False]]
PYTHON
