"""How large a model is, read from the headers of its weights; no tensor is loaded."""

import json
from math import prod
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from engine.errors import ModelError


class Size(NamedTuple):
    """What a Hugging Face folder says of its model; None where it does not say."""

    parameters: int | None = None  # tied weights count once
    layers: int | None = None
    positions: int | None = None  # tokens that it can read


def size(folder: Path) -> Size:
    """Return the size of the model in `folder`.

    Raises:
        ModelError: config.json or a file of weights cannot be read.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        parameters = sum(_parameters(path) for path in folder.glob("*.safetensors"))
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"model {folder}: config.json or its weights cannot be read: {error}. Train or fetch it again.") from None
    return Size(parameters or None, config.get("num_hidden_layers"), config.get("max_position_embeddings"))


def _parameters(path: Path) -> int:
    with safe_open(path, framework="numpy") as tensors:
        return sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118 - it is no dict
