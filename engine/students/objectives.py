"""What a student is graded by, token by token. A dict beside the functions chooses.

Every objective maps logits [T, V] (float32), labels [T] and weights [T] to the weighted sum of its loss over the T target tokens,
in nats; `loss` divides by the weight of the whole batch.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from engine.students.pack import Batch


def sft(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy of the target tokens."""
    return (nn.functional.cross_entropy(logits, labels, reduction="none") * weights).sum()


OBJECTIVES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"sft": sft}


class LossModule(nn.Module):
    """A causal language model whose output is its loss.

    The output layer is computed at the target's positions only: with 49,152 words it costs as much as five decoder layers.
    """

    def __init__(self, model: Any, objectives: Mapping[str, float]) -> None:
        super().__init__()
        self.model = model
        self.objectives = dict(objectives)

    def forward(self, batch: Batch) -> Tensor:
        """Return the weighted sum of the objectives over all target tokens of `batch`."""
        hidden = self.model.get_decoder()(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).last_hidden_state
        picked = hidden.flatten(0, 1)[batch.positions]
        logits = self.model.get_output_embeddings()(picked).float()
        terms = [share * OBJECTIVES[name](logits, batch.labels, batch.weights) for name, share in self.objectives.items()]
        return torch.stack(terms).sum()
