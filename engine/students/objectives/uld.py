"""Universal logit distillation (Boizard et al., "Towards cross-tokenizer distillation", 2024): sorted probabilities are compared.

The loss is the Wasserstein distance of two distributions where all moves of mass cost the same. It has a closed form: the sum over
ranks r of |t_r - s_r|, t being the teacher's and s the student's probabilities, each sorted from the largest down. It says how sure
the teacher is and among how many words, not which words, so it is trained beside an objective that does (`sft` in the paper).

Which probabilities: those of the student's next token, as `data/aligned.py` lays the teacher's words by bytes; with one tokenizer
they are the teacher's own. The paper sorts the words of the other tokenizer as they are, and pairs the tokens of both by their
number. Then a student that writes with exactly the teacher's probabilities has a loss: of a teacher that says `ab` with 0.5 and
`abc` with 0.4, a student with `ab` alone says `ab` with 0.9. GOLD (TRL) has an exact divergence for words that are in both
vocabularies, and sorts the others; here each word that can be spelled has a token: write `forward_kl` or `jsd` beside `uld`.

Which ranks: a capture has some words W, whose probabilities are taken as they are, and the mass of all others, the tail. Both
distributions have the sum 1, so the distance is twice what the student lacks, 2 sum max(t_r - s_r, 0), and also twice what it has
too much, 2 sum max(s_r - t_r, 0). W bounds both sums from below, and the loss is the larger bound:

- Lacking: t_r is at least the r-th of W, as other words only push ranks up.
- Too much: t_r is at most the larger one of the r-th of W and the tail, as no word of the tail has more than all of it.

Hence 0 <= loss <= distance over all words <= loss + 2 tail, and the loss is the distance where the teacher is known whole. Where no
word of W has less than the tail, it is what the tail as one outcome more would give (`partition.py`); elsewhere that could be more
than the distance: the target's own word is captured however unlikely it is, and a token of the student that is several of the
teacher's has no other words. A tail that is spread evenly, or taken as absent, would give a student that equals the teacher a loss
of up to twice its mass, and would teach a flat tail, or none.
"""

import math

import torch
from torch import Tensor

from engine.contract.objectives import Uld
from engine.students.data.batch import Batch
from engine.students.objectives.outputs import Outputs

COLUMNS = ("messages", "target", "weight")


def loss(outputs: Outputs, batch: Batch, settings: Uld) -> Tensor:
    """Return the distance [T] of student and teacher, from 0 to 2 in units of probability; 0 where the gate is closed.

    Only the K largest of the student's V probabilities are looked for, so that no tensor of [T, V] is made beside the gradient.
    """
    assert batch.teacher is not None, "a training with this objective reads a capture"
    teacher, closed = batch.teacher, ~batch.teacher.gate[:, None]  # what is stored behind a closed gate may be anything
    words = teacher.logprobs.masked_fill((teacher.ids < 0) | closed, -math.inf)
    theirs = words.to(outputs.log_probs.dtype).exp().sort(dim=1, descending=True).values
    tail = teacher.tail[:, None].masked_fill(closed, 0.0).to(theirs.dtype).exp()
    ours = outputs.log_probs.topk(theirs.shape[1], dim=1).values.exp()
    lacking = torch.relu(theirs - ours).sum(dim=1)
    excess = (torch.relu(ours - torch.maximum(theirs, tail)) * (theirs > 0)).sum(dim=1)  # padding is no rank of W
    return 2 * torch.maximum(lacking, excess)
