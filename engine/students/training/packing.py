"""Whether a model keeps the examples of one row apart, found out on the model itself before its first step.

Positions that begin anew in a row tell transformers where an example begins: its attention masks are then block-diagonal, also
those of a sliding window. A 2-D attention mask would hide that, so none is given. A model that mixes tokens in another way
(convolution, recurrence, distances that are no positions) does not see the border.
"""

from typing import Any

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.students.data.pack import Packed

TOLERANCE = 1e-4  # of the largest logit: kernels, order of sums
PROBED = 256  # tokens of an example


def check(model: Any, packed: Packed, name: str) -> None:
    """Check that the logits of two examples in one row are those of each alone; `name` is the student's.

    Raises:
        ModelError: they are not, or the model takes no positions.
    """
    pair = [torch.from_numpy(packed.ids[start:end][:PROBED].astype("int64")) for start, end in _ends(packed)]
    try:
        alone = torch.cat([_logits(model, ids, torch.arange(len(ids))) for ids in pair])
        together = _logits(model, torch.cat(pair), torch.cat([torch.arange(len(ids)) for ids in pair]))
    except Exception as error:  # whatever the model of somebody else raises for positions
        raise ModelError(f"{_where(model, name)} takes no positions of tokens ({type(error).__name__}: {error}).") from None
    difference, limit = float((alone - together).abs().max()), TOLERANCE * max(1.0, float(alone.abs().max()))
    if not difference <= limit:
        raise ModelError(
            f"{_where(model, name)} does not keep examples in one row apart: logits differ by {difference:.3g} from those of each "
            f"alone, expected at most {limit:.3g}. Set packing: false."
        )


def _ends(packed: Packed) -> list[tuple[int, int]]:
    """Return where two examples begin and end; one twice if there is one."""
    last = len(packed) - 1
    return [(int(packed.starts[at]), int(packed.starts[at + 1])) for at in (0, min(1, last))]


def _logits(model: Any, ids: Tensor, positions: Tensor) -> Tensor:
    """Return the logits [L, V] of one row of ids [L] without dropout."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            return model(input_ids=ids[None].to(device), position_ids=positions[None].to(device), use_cache=False).logits[0].float()
    finally:
        model.train(was_training)


def _where(model: Any, name: str) -> str:
    return f"students.{name}.packing: {type(model).__name__}"
