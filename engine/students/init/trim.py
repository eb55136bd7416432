"""The rows of the embeddings and of the output layer that belong to the tokens of a trimmed tokenizer."""

from dataclasses import replace
from typing import Any

from engine.errors import ModelError
from engine.students.init.prune import PrunedModel
from engine.students.init.trim_tokenizer import OMIT


def trim(made: PrunedModel, tokenizer: Any) -> PrunedModel:
    """Return `made` with `tokenizer`, whose tokens are some of those of its own one; the model is changed in place.

    Kept tokens keep their rows, so their logits are those of the whole model, up to the order of floating-point sums.

    Raises:
        ModelError: the model has no rows for a token, or other weights that go by tokens.
    """
    before = made.tokenizer.get_vocab()
    kept = [before[token] for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])]
    model, name = made.model, type(made.model).__name__
    size = model.get_input_embeddings().num_embeddings
    if beyond := [token for token, index in before.items() if index >= size and index in set(kept)]:
        raise ModelError(f"{name}: the tokens {beyond[:5]} have no row in its embeddings, which are {size}. {OMIT}")
    resize(model, kept)
    if others := by_token(model, size) if len(kept) < size else []:
        raise ModelError(f"{name}: the weights {', '.join(others)} go by tokens, too, and cannot be trimmed. {OMIT}")
    renumber(model, {old: new for new, old in enumerate(kept)})
    return replace(made, tokenizer=tokenizer)


def resize(model: Any, kept: list[int]) -> None:
    """Keep only the rows `kept` of the embeddings and of the output layer of `model`, in that order; tied ones stay tied."""
    import torch

    tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    rows = [[None if tensor is None else tensor[kept].clone() for tensor in _tensors(table)] for table in tables]
    with torch.no_grad():
        model.resize_token_embeddings(len(kept), mean_resizing=False)
        for table, old in zip((model.get_input_embeddings(), model.get_output_embeddings()), rows, strict=True):
            for tensor, values in zip(_tensors(table), old, strict=True):
                if tensor is not None:
                    tensor.copy_(values)


def _tensors(table: Any) -> tuple[Any, Any]:
    bias = getattr(table, "bias", None)
    return table.weight.data, None if bias is None else bias.data


def by_token(model: Any, size: int) -> list[str]:
    """Return the names of embeddings of `model` that still have `size` rows, one for each token."""
    from torch import nn

    if size == getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None):
        return []  # they are positions
    return [name for name, module in model.named_modules() if isinstance(module, nn.Embedding) and module.num_embeddings == size]


def renumber(model: Any, new: dict[int, int]) -> None:
    """Replace the ids of special tokens in the configurations of `model` by the ids `new` of the same tokens."""
    found = (model.config, model.config.get_text_config(decoder=True), model.generation_config)
    for config in {id(config): config for config in found if config is not None}.values():
        for key, value in list(vars(config).items()):
            if key.endswith("_token_id") and value is not None:
                setattr(config, key, [new[one] for one in value if one in new] if isinstance(value, list) else new.get(value))
    embeddings = model.get_input_embeddings()
    if embeddings.padding_idx is not None:
        embeddings.padding_idx = new.get(embeddings.padding_idx)
