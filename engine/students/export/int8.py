"""Linear layers in int8, in the layout of compressed-tensors that vLLM and transformers load: W8A8, round to nearest.

Weights have one scale per output channel, activations one per token, computed as they come: no calibration data
(LLM.int8(), Dettmers et al., 2022, without its outlier columns).
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import ModelError

LARGEST = 127
IGNORED = "lm_head"
"""The output layer keeps its type: vLLM shares it with the embeddings where they are tied."""


def write(source: Path, target: Path) -> int:
    """Write the model in the folder `source` into `target`; return how many linear layers are in int8.

    Raises:
        ModelError: the model is quantised already, or has no linear layer besides its output layer.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = json.loads((source / "config.json").read_text("utf-8"))
    if "quantization_config" in config:
        raise ModelError(f"{source}: is quantised already; int8 is made from weights of floating-point numbers.")
    described = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(described, trust_remote_code=False)
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and name != IGNORED}
    done = 0
    for file in sorted(source.glob("*.safetensors")):
        tensors: dict[str, Tensor] = {}
        for name, weight in load_file(file).items():
            if name.removesuffix(".weight") in linear and name.endswith(".weight"):
                tensors[name], tensors[f"{name}_scale"] = quantize(weight)
                done += 1
            else:
                tensors[name] = weight
        save_file(tensors, target / file.name, metadata={"format": "pt"})
    if done < len(linear) or not done:
        raise ModelError(
            f"{source}: {type(model).__name__} has {len(linear)} linear layers, of which {done} have weights of their own name in "
            "its files, so that it cannot be exported as int8. Leave the export out, or use gguf."
        )
    (target / "config.json").write_text(json.dumps({**config, "quantization_config": layout()}, indent=2), "utf-8")
    return done


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return `weight` [out, in] as int8 [out, in], and its scales [out, 1] in float32."""
    wide = weight.float()
    scale = (wide.abs().amax(dim=1, keepdim=True) / LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
    return (wide / scale).round().clamp(-LARGEST, LARGEST).to(torch.int8), scale


def layout() -> dict[str, object]:
    """Return the `quantization_config` of compressed-tensors for these weights."""
    eight = {"num_bits": 8, "type": "int", "symmetric": True}
    group = {
        "targets": ["Linear"],
        "weights": {**eight, "strategy": "channel", "dynamic": False},
        "input_activations": {**eight, "strategy": "token", "dynamic": True},
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": [IGNORED],
        "config_groups": {"group_0": group},
    }
