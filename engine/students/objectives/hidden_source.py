"""The model whose hidden states a student imitates: frozen, in the same worker, without its output layer.

It costs the memory of its weights in float32, and its forward pass over the whole batch in every micro-batch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.contract.objectives import Hidden
from engine.errors import ModelError
from engine.students.data.batch import Batch
from engine.students.init.prune import load
from engine.students.objectives.hidden import by_depth


class HiddenSource:
    """The frozen model, and which of its layers each layer of the student imitates."""

    def __init__(self, decoder: Any, layers: Mapping[int, int]) -> None:
        self.decoder, self.layers = decoder, dict(layers)

    @staticmethod
    def load(folder: Path, student: Any, tokenizer: Any, settings: Hidden) -> "HiddenSource":
        """Load the model in `folder` for the model `student` and its tokenizer (transformers' classes).

        Raises:
            ModelError: it cannot be loaded, has other words than the student, or lacks a layer that `settings` names.
        """
        whole = load(folder)
        words = whole.tokenizer.get_vocab()
        if words != tokenizer.get_vocab():
            raise ModelError(
                f"objectives.hidden: the source {folder} has {len(words)} words, the student has {len(tokenizer.get_vocab())} "
                "others, so their tokens cannot be compared. Leave the vocabulary as it is, or use forward_kl."
            )
        counts = [each.config.get_text_config(decoder=True).num_hidden_layers for each in (student, whole.model)]
        layers = settings.layers or by_depth(*counts)
        for found, count, whose in ((max(layers), counts[0], "student"), (max(layers.values()), counts[1], "source")):
            if found >= count:
                raise ModelError(
                    f"objectives.hidden.layers: found layer {found} of the {whose}, expected 0 to {count - 1}; name others."
                )
        return HiddenSource(whole.model.get_decoder().eval().requires_grad_(False), layers)

    def to(self, device: torch.device) -> "HiddenSource":
        """Move the model to `device`."""
        self.decoder.to(device)
        return self

    def projections(self, student: Any) -> nn.ModuleList | None:
        """Return a linear map for each pair of layers, trained with the student; None if both models have the same width."""
        ours, theirs = (each.config.get_text_config(decoder=True).hidden_size for each in (student, self.decoder))
        return None if ours == theirs else nn.ModuleList(nn.Linear(ours, theirs, bias=False) for _ in self.layers)

    def states(
        self, batch: Batch, student: Sequence[Tensor], projections: nn.ModuleList | None
    ) -> tuple[tuple[Tensor, Tensor], ...]:
        """Return (student's, source's) hidden states [T, H] at the target tokens, one for each pair of layers.

        `student` has the hidden states of the student's forward pass [B, L, H]: embeddings, then the layers; that of the last layer
        is normalised, as is the source's.
        """
        with torch.no_grad():
            ran = self.decoder(input_ids=batch.ids, **batch.attention(), use_cache=False, output_hidden_states=True)
        pairs = []
        for number, (ours, theirs) in enumerate(self.layers.items()):
            mine, other = (states.flatten(0, 1)[batch.positions] for states in (student[ours + 1], ran.hidden_states[theirs + 1]))
            pairs.append(((projections[number](mine) if projections else mine).float(), other.float()))
        return tuple(pairs)
