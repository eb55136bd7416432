#!/usr/bin/env bash
# A model that is saved in shards over one saved whole is not the one that is loaded.
#
# Guess: save_pretrained into a folder of an earlier save replaces the earlier model, and from_pretrained loads the last one
#        saved; files of another save are removed, as the shards of an earlier save are.
# Seen:  model.safetensors of the earlier save stays beside the new shards and their index, and from_pretrained takes it: the
#        weights are the old ones, of the same names and shapes, and nothing warns. The other way round, a whole model saved
#        over shards, it removes the shards and loads the last.
# With:  transformers 5.19.0, torch 2.13.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.19.0 torch==2.13.0 numpy==2.3.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import os
from importlib.metadata import version

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
config = LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2
)


def loaded(folder, *shard_sizes):
    """Which of the models that are saved into a folder, each at this size of a shard, is loaded from it: its place, from 0."""
    models = [LlamaForCausalLM(config) for _ in shard_sizes]
    for model, size in zip(models, shard_sizes, strict=True):
        model.save_pretrained(folder, max_shard_size=size)
    head = LlamaForCausalLM.from_pretrained(folder).lm_head.weight
    return [torch.equal(head, model.lm_head.weight) for model in models].index(True)


shards, whole = "20KB", "1GB"
seen = {"whole, then shards": loaded("a", whole, shards), "shards, then whole": loaded("b", shards, whole)}
print("transformers", version("transformers"), "loaded, 0 for the first saved and 1 for the last:", seen)
print("files of the first:", sorted(name for name in os.listdir("a") if "safetensors" in name))
assert seen == {"whole, then shards": 0, "shards, then whole": 1}
PYTHON
