"""Hidden states like the source's (Jiao et al., "TinyBERT", 2020; Sanh et al., "DistilBERT", 2019): at target tokens, by layer."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from engine.contract.objectives import Hidden
from engine.students.data.batch import Batch
from engine.students.objectives.outputs import Outputs

COLUMNS = ("messages", "target", "weight")


def loss(outputs: Outputs, batch: Batch, settings: Hidden) -> Tensor:
    """Return the distance [T], its mean over the pairs of layers: squared difference a component, or 1 less the cosine."""
    if settings.loss == "cosine":
        distances = [1 - cosine_similarity(ours, theirs, dim=1) for ours, theirs in outputs.states]
    else:
        distances = [(ours - theirs).square().mean(dim=1) for ours, theirs in outputs.states]
    return torch.stack(distances).mean(dim=0)


def by_depth(layers: int, source_layers: int) -> Mapping[int, int]:
    """Return layer of the student -> layer of the source that ends at the same share of the depth; the last one is the last."""
    return {layer: -(-(layer + 1) * source_layers // layers) - 1 for layer in range(layers)}
