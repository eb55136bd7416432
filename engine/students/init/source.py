"""Whether a model can be a student's source, before anything is paid: no weights are loaded."""

import json
from pathlib import Path
from typing import Any

from engine.contract.students import Student
from engine.errors import ModelError
from engine.inference.bundled import BUNDLED
from engine.inference.chat_template import check_template
from engine.students.data import preflight
from engine.students.init.prune import check_layers, count_layers
from engine.students.init.weights import UNIFORM, check_files

LEAST_TOKENS = 256
"""Bytes: a trimmed vocabulary has at least these tokens. How many more is known with the examples."""


def check_source(folder: Path, student: Student, instruction: str, *, has_weights: bool = True) -> None:
    """Check that the model in `folder` can become `student`, that its chat template takes the system text `instruction`, and that
    what is trained with it is what is served (`preflight`). Weights that `folder` has not are fetched where the student is trained.

    Raises:
        ModelError: it has no such template, training and serving text differ, it has no layer of that index, no configuration
            describes these layers alone, its weights are quantised, or its files lack some.
    """
    layers, count = student.init.layers, count_layers(folder)
    check_layers(layers or (), count, folder)
    if student.freeze_layers >= count:
        raise ModelError(f"{folder}: freeze_layers: found {student.freeze_layers}, expected less than the model's {count} layers.")
    _check_hidden(folder, student, count)
    if has_weights:
        check_files(folder)
    check_template(folder, instruction)
    if student.init.source not in BUNDLED:  # they pass, and transformers takes five seconds to import
        preflight.check_source(folder)
    family = json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
    if student.init.shrink:
        check_shrink(folder, student, LEAST_TOKENS)
    elif student.init.adapter or (layers and family not in UNIFORM):
        _make_without_weights(folder, student)


def _check_hidden(folder: Path, student: Student, count: int) -> None:
    """Raise ModelError if the objective `hidden` names a layer that is not there, as far as it is known how many a student has."""
    named = (student.objectives.hidden and student.objectives.hidden.layers) or {}
    layers = student.init.layers
    own = None if student.init.shrink else count if layers is None else len(layers)
    for whose, found, size in (("student", max(named, default=-1), own), ("source", max(named.values(), default=-1), count)):
        if size is not None and found >= size:
            raise ModelError(
                f"{folder}: students.{student.name}.objectives.hidden.layers: found layer {found} of the {whose}, expected 0 to "
                f"{size - 1}."
            )


def check_shrink(folder: Path, student: Student, words: int) -> None:
    """Check that the model in `folder` can be cut as `init.shrink` orders; `words` is the least size of a trimmed vocabulary.

    Raises:
        ModelError: it cannot be cut, or not to so few parameters.
    """
    from engine.students.init import shrink, width

    options, trim = student.init.shrink, student.init.vocabulary
    assert options is not None
    try:
        parts = width.anatomy(_without_weights(folder))
        shrink.check(parts, options)
        shrink.wanted(parts, options, vocabulary=words if trim else None)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from None


def _without_weights(folder: Path) -> Any:
    """Return the model in the folder `folder` on the meta device."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # whatever the model of somebody else raises
        reason = f"{type(error).__name__}: {error}"
        raise ModelError(f"{folder}: no causal language model can be built from config.json: {reason}") from None


def _make_without_weights(folder: Path, student: Student) -> None:
    from engine.students.init import adapter
    from engine.students.init.layers import keep, served_otherwise

    model, layers = _without_weights(folder), student.init.layers
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
