"""Cross entropy with a rationale whose weight follows the epoch: kept, faded out, or dropped.

The rationale's tokens stay in the student's input. Their weight falls, the weight of the other tokens does not rise, and the loss
is divided by all target tokens, so that the answer's gradient is the same in every epoch. A student whose rationale was dropped
answers after a rationale that it wrote with what it learned before.
"""

from torch import Tensor
from torch.nn.functional import nll_loss

from engine.contract.objectives import Process
from engine.students.data.batch import Batch
from engine.students.objectives.outputs import Outputs

COLUMNS = ("messages", "target", "weight", "rationale")


def loss(outputs: Outputs, batch: Batch, settings: Process) -> Tensor:
    """Return the cross entropy of each target token [T], nats, that of the rationale times its weight in this epoch."""
    assert batch.rationale is not None, "a training with this objective reads where the rationale is"
    losses = nll_loss(outputs.log_probs, batch.labels, reduction="none")
    return losses * (1 - batch.rationale.float() * (1 - rationale_weight(settings, outputs.epoch, outputs.epochs)))


def rationale_weight(settings: Process, epoch: int, epochs: int) -> float:
    """Return the weight of the rationale's tokens in `epoch` (from 0) of `epochs`."""
    if settings.schedule == "fade":
        return 1 - epoch / (epochs - 1) if epochs > 1 else 1.0
    return 1.0 if settings.epochs is None or epoch < settings.epochs else 0.0
