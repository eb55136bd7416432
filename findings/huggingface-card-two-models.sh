#!/usr/bin/env bash
# A model card with two models gives all results to the last one.
#
# Guess: loading and saving a card keeps its model-index.
# Seen:  a model-index with the models `one` and `two`, of one result each, is written back as the model `two` with both results.
# With:  huggingface-hub 2.4.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet huggingface-hub==2.4.0
"$folder/venv/bin/python" - <<'PYTHON'
from huggingface_hub import ModelCard

RESULT = """- name: {}
  results:
  - task:
      type: text-generation
    dataset:
      name: Mails
      type: mails
    metrics:
    - type: {}
      value: {}
"""
card = ModelCard("---\nmodel-index:\n" + RESULT.format("one", "accuracy", 0.5) + RESULT.format("two", "f1", 0.25) + "---\n")
loaded = card.data.model_name, [(result.metric_type, result.metric_value) for result in card.data.eval_results]
print(loaded)
print(card)
assert loaded == ("two", [("accuracy", 0.5), ("f1", 0.25)]) and "name: one" not in str(card)
PYTHON
