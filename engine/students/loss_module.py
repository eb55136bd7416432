"""A causal language model wrapped into a module whose output is its loss, as DeepSpeed's engine wants it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from engine.students.objectives import OBJECTIVES
from engine.students.pack import Batch


class LossModule(nn.Module):
    """The weighted sum of objectives over a model.

    The output layer is computed at the target's positions only: with 49,152 words it costs as much as five decoder layers.
    """

    def __init__(self, model: Any, objectives: Mapping[str, float]) -> None:
        super().__init__()
        self.model = model
        self.objectives = {name: share for name, share in objectives.items() if share}

    def forward(self, batch: Batch) -> Tensor:
        """Return the weighted sum of the objectives over all target tokens of `batch`, in nats."""
        hidden = self.model.get_decoder()(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).last_hidden_state
        at_targets = hidden.flatten(0, 1)[batch.positions]
        logits = self.model.get_output_embeddings()(at_targets).float()
        terms = [share * OBJECTIVES[name].loss(logits, batch) for name, share in self.objectives.items()]
        return torch.stack(terms).sum()
