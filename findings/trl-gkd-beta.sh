#!/usr/bin/env bash
# A beta of 0.01 gives a hundredth of the loss of beta 0.
#
# Guess: beta of GKD interpolates between the KL divergence at 0 and its inverse at 1, as its documentation says: at 0.01 the
#        loss is about that at 0, so beta can be swept at one learning rate.
# Seen:  between the ends it is the generalized Jensen-Shannon divergence, which goes to 0 at both: 0.01 gives about a hundredth
#        of the loss at 0, and of its gradient, and 0.99 a hundredth of that at 1. A sweep compares learning rates as much as
#        divergences.
# With:  trl 1.16.0, transformers 5.19.0, torch 2.13.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet trl==1.16.0 transformers==5.19.0 torch==2.13.0 accelerate==1.15.0 datasets==5.2.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import os
from importlib.metadata import version

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
import torch
from trl.experimental.gkd import GKDTrainer

teacher = torch.tensor([[[0.0, 1.0, 3.0]]])
seen = {}
for beta in (0, 0.01, 0.5, 0.99, 1):
    student = torch.tensor([[[2.0, 0.0, 0.0]]], requires_grad=True)
    loss = GKDTrainer.generalized_jsd_loss(student, teacher, beta=beta)
    loss.backward()
    seen[beta] = (loss.item(), student.grad.norm().item())
shown = {beta: tuple(round(value, 4) for value in values) for beta, values in seen.items()}
print("trl", version("trl"), "loss and norm of the gradient at each beta:", shown)
assert seen[0][0] > 1 and seen[1][0] > 1
assert 0.005 < seen[0.01][0] / seen[0][0] < 0.02 and 0.005 < seen[0.99][0] / seen[1][0] < 0.02
assert seen[0.01][1] / seen[0][1] < 0.02 and seen[0.99][1] / seen[1][1] < 0.05
PYTHON
