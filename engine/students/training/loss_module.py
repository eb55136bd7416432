"""A causal language model wrapped into a module whose output is its loss, as DeepSpeed's engine wants it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from engine.students.data.pack import Batch
from engine.students.objectives import OBJECTIVES


class LossModule(nn.Module):
    """The weighted sum of objectives over a model.

    The output layer is computed at the target's positions only: with 49,152 words it costs as much as five decoder layers. What
    the model does to its logits after that layer (scaling, soft caps) stays.
    """

    def __init__(self, model: Any, objectives: Mapping[str, float]) -> None:
        super().__init__()
        self.model = model
        self.objectives = {name: share for name, share in objectives.items() if share}
        self.positions: Tensor | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._at_positions)

    def forward(self, batch: Batch) -> Tensor:
        """Return the weighted sum of the objectives over all target tokens of `batch`, in nats."""
        self.positions = batch.positions
        logits = self.model(input_ids=batch.ids, **batch.attention(), use_cache=False).logits[0].float()
        self.positions = None
        terms = [share * OBJECTIVES[name].loss(logits, batch) for name, share in self.objectives.items()]
        return torch.stack(terms).sum()

    def _at_positions(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the hidden states [1, T, H] that the output layer reads, of [B, L, H]."""
        return inputs if self.positions is None else (inputs[0].flatten(0, 1)[self.positions].unsqueeze(0),)
