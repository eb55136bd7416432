"""Reads a model's size from the headers of its weights; no tensor is loaded."""

import json
from math import prod
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from engine.errors import ModelError

NO_PARAMETERS = ("weight_scale", "qzeros", "scales", "g_idx")  # of a quantised weight
PACKED, BITS = "qweight", 4  # several weights in an int32 (GPTQ, AWQ), of so many bits if config.json does not say it


class ModelSize(NamedTuple):
    """Size of the model in a Hugging Face folder; None where the folder does not state it."""

    parameters: int | None = None  # tied weights count once
    layers: int | None = None
    positions: int | None = None  # longest sequence, tokens
    weight_bytes: int | None = None  # of the files of weights


def model_size(folder: Path) -> ModelSize:
    """Return the size of the model in `folder`.

    Raises:
        ModelError: config.json or a weights file cannot be read.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        files = [*folder.glob("*.safetensors"), *folder.glob("*.gguf")]
        bits = (config.get("quantization_config") or {}).get("bits") or BITS
        parameters = sum(_parameters(path, bits) for path in files)
        size = sum(path.stat().st_size for path in files)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"model {folder}: config.json or its weights cannot be read: {error}. Train or fetch it again.") from None
    return ModelSize(parameters or None, config.get("num_hidden_layers"), config.get("max_position_embeddings"), size or None)


def _parameters(path: Path, bits: int) -> int:
    """Return the number of weights in the file `path`; those that are packed into an int32 have `bits` bits."""
    if path.suffix == ".gguf":
        from gguf import GGUFReader

        return sum(int(tensor.n_elements) for tensor in GGUFReader(path).tensors)
    total = 0
    with safe_open(path, framework="numpy") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - not a dict
            last = name.rpartition(".")[2]
            if last not in NO_PARAMETERS:
                size = prod(tensors.get_slice(name).get_shape())
                total += size * 32 // bits if last == PACKED else size
    return total
