"""Whether a model can be a student's source, before anything is paid: no weights are loaded."""

import json
from pathlib import Path

from engine.contract.students import Student
from engine.errors import ModelError
from engine.inference.chat_template import check_template
from engine.students.data import preflight
from engine.students.init.prune import check_layers, count_layers

UNIFORM = frozenset({"llama", "mistral", "gemma", "granite", "olmo2", "phi3"})
"""Families whose layers are all alike: for them the seconds that torch takes to import are saved."""


def check_source(folder: Path, student: Student, instruction: str) -> None:
    """Check that the model in `folder` can become `student`, that its chat template takes the system text `instruction`, and that
    what is trained with it is what is served (`preflight`).

    Raises:
        ModelError: it has no such template, training and serving text differ, it has no layer of that index, or no
            configuration describes these layers alone.
    """
    layers, count = student.init.layers, count_layers(folder)
    check_layers(layers or (), count, folder)
    if student.freeze_layers >= count:
        raise ModelError(f"{folder}: freeze_layers: found {student.freeze_layers}, expected less than the model's {count} layers.")
    check_template(folder, instruction)
    preflight.check_source(folder)
    family = json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
    if student.init.adapter or (layers and family not in UNIFORM):
        _make_without_weights(folder, student)


def _make_without_weights(folder: Path, student: Student) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from engine.students.init import adapter
    from engine.students.init.layers import keep, served_otherwise

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # whatever the model of somebody else raises
        reason = f"{type(error).__name__}: {error}"
        raise ModelError(f"{folder}: no causal language model can be built from config.json: {reason}") from None
    layers = student.init.layers
    try:
        if layers:
            keep(model, layers)
        if student.init.adapter:
            adapter.targets(model, student.init.adapter)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from None
    if layers and (reason := served_otherwise(model.config, layers)):
        raise ModelError(
            f"{folder}: init.prune.layers: found {list(layers)}, with which vLLM would not serve what was trained: {reason}."
        )
