"""Models in `rayleigh check`: what of an engine's start can be known to fail, before a job pays for anything."""

import os
from pathlib import Path

from engine.contract.models import LlamaCppModel, Model, TeacherModel, VllmModel
from engine.errors import ModelError
from engine.inference.llama_cpp_child import missing
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
        if problem := missing(model.packages):
            raise ModelError(f"{key}.packages: {problem}")
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
    if any(isinstance(value, dict) for kind in kinds for value in kind.values()):  # of each type of layers its own
        return None
    if any(kind.get("rope_type", kind.get("type", "default")) not in ("default", None) for kind in kinds):
        return None
    return count_positions(folder)
