"""Whether a model can be a student's source, before anything is paid: no weights are loaded."""

import json
from collections.abc import Sequence
from pathlib import Path

from engine.errors import ModelError
from engine.inference.chat_template import check_template
from engine.students.data import preflight
from engine.students.init.prune import check_layers, count_layers

UNIFORM = frozenset({"llama", "mistral", "gemma", "granite", "olmo2", "phi3"})
"""Families whose layers are all alike: for them the seconds that torch takes to import are saved."""


def check_source(folder: Path, layers: Sequence[int], instruction: str) -> None:
    """Check that the model in `folder` has a chat template that takes the system text `instruction`, that what is trained with
    it is what is served (`preflight`), and that the model can be cut to `layers`.

    Raises:
        ModelError: it has no such template, training and serving text differ, it has no layer of that index, or no
            configuration describes these layers alone.
    """
    check_layers(layers, count_layers(folder), folder)
    check_template(folder, instruction)
    preflight.check_source(folder)
    if json.loads((folder / "config.json").read_text("utf-8")).get("model_type") not in UNIFORM:
        _prune_without_weights(folder, layers)


def _prune_without_weights(folder: Path, layers: Sequence[int]) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from engine.students.init.layers import keep, served_otherwise

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # whatever the model of somebody else raises
        reason = f"{type(error).__name__}: {error}"
        raise ModelError(f"{folder}: no causal language model can be built from config.json: {reason}") from None
    try:
        keep(model, layers)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from None
    if reason := served_otherwise(model.config, layers):
        raise ModelError(
            f"{folder}: init.prune.layers: found {list(layers)}, with which vLLM would not serve what was trained: {reason}."
        )
