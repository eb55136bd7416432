"""The model with which a training begins, by the kinds of `init`: where its weights come from, its vocabulary, what is trained."""

from typing import TYPE_CHECKING, Any

from engine.contract.students import Student
from engine.errors import ModelError
from engine.students.init import adapter
from engine.students.init.prune import PrunedModel, load, prune
from engine.students.init.trim import trim

if TYPE_CHECKING:
    from engine.students.training.state import TrainSpec


def initial(spec: "TrainSpec", tokenizer: Any = None) -> PrunedModel:
    """Return the model of `spec` in float32, in training mode, with what is not trained frozen.

    `tokenizer` is the student's own, if its vocabulary is not the source's.

    Raises:
        ModelError: the source is no causal language model, or cannot be made into the model that is ordered.
    """
    init = spec.student.init
    made = prune(spec.source_folder, init.prune.layers) if init.prune else load(spec.source_folder)
    if init.vocabulary:
        made = trim(made, tokenizer)
    if init.adapter:
        made = adapter.add(made, init.adapter, seed=spec.student.seed)
    freeze(made, spec.student)
    made.model.train()
    return made


def freeze(made: PrunedModel, student: Student) -> None:
    """Freeze what `student` does not train: the token table with an output layer tied to it, and first decoder layers.

    Raises:
        ModelError: no layer is left to train.
    """
    from engine.students.init.layers import find

    if not student.init.adapter:  # which has frozen all weights of the model
        for embeddings in (made.model.get_input_embeddings(), made.model.get_output_embeddings()):
            embeddings.weight.requires_grad_(not student.freeze_embeddings)
    if not student.freeze_layers:
        return
    layers = find(made.model)
    if student.freeze_layers >= len(layers):
        raise ModelError(
            f"student {student.name}: freeze_layers: found {student.freeze_layers}, expected less than the {len(layers)} layers of "
            "the model."
        )
    layers[: student.freeze_layers].requires_grad_(False)
