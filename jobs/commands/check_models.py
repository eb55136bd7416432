"""Models in `rayleigh check`: what of an engine's start can be known to fail, before a job pays for anything."""

import os
from pathlib import Path

from engine.contract.models import LlamaCppModel, Model, TeacherModel, VllmModel
from engine.errors import ModelError
from engine.inference.identity import version_in
from engine.inference.llama_cpp_child import PACKAGE, install
from engine.inference.llama_cpp_engine import weights_file
from engine.students.data.preflight import configuration
from engine.students.init.prune import count_positions

SCALED = ("rope_scaling", "rope_parameters")
"""Keys of a configuration that may say that the model reads longer texts than it has positions."""


def check_engine(key: str, model: Model | TeacherModel, folder: Path | None, *, has_weights: bool) -> None:
    """Check that the engine of `model`, which the contract has at `key`, will read the files in `folder`; None: not unpacked yet.

    Raises:
        ModelError: a GGUF file or llama-cpp-python is missing, or `max_model_len` is more than the model reads.
    """
    if isinstance(model, LlamaCppModel):
        if version_in(PACKAGE, model.packages) is None:
            where = f"neither in {model.packages} nor in this environment" if model.packages else "not in this environment"
            raise ModelError(f"{key}.packages: {PACKAGE} is {where}. {install(model.packages)}")
        if folder and has_weights:
            weights_file(folder)
    if folder and isinstance(model, VllmModel) and (most := _positions(folder)) and model.max_model_len > most:
        raise ModelError(
            f"{key}.max_model_len: found {model.max_model_len}, expected at most {most}, the longest text that the model in "
            f"{folder} reads (max_position_embeddings of config.json). Lower it; it is the length of prompt and answer together."
        )


def _positions(folder: Path) -> int | None:
    """Return the most tokens of a text that the model reads; None if its configuration does not say, or stretches them."""
    config = configuration(folder / "config.json")
    if config.get("model_max_length") or os.environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN"):  # with these vLLM takes more
        return None
    inner = config.get("text_config") or config
    kinds = [(inner.get(key) or {}) for key in SCALED]
    if any(kind.get("rope_type", kind.get("type", "default")) not in ("default", None) for kind in kinds if isinstance(kind, dict)):
        return None
    return count_positions(folder)
