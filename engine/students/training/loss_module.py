"""A causal language model wrapped into a module whose output is its loss, as DeepSpeed's engine wants it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from engine.contract.objectives import PAIRED, Objectives
from engine.contract.on_policy import OnPolicy
from engine.students.data.batch import Batch, PreferenceBatch
from engine.students.objectives import OBJECTIVES, PAIR_OBJECTIVES, blend, grpo
from engine.students.objectives.hidden_source import HiddenSource
from engine.students.objectives.outputs import Outputs, PairOutputs


class Place(NamedTuple):
    """Where in the training a forward pass is."""

    epoch: int  # from 0
    epochs: int
    pair_factor: float = 1.0  # of the pairs' terms; those of the tokens are divided by the weight of the step, pairs are counted


START = Place(0, 1)


class Totals:
    """Sums over the forward passes of one worker: the loss, and the term of each objective."""

    def __init__(self, net: "LossModule", device: torch.device) -> None:
        self.names = (*net.names, *net.paired)
        self.values = torch.zeros(1 + len(self.names), device=device)
        self.seen: set[str] = set()

    def add(self, loss: Tensor, parts: Mapping[str, Tensor]) -> None:
        """Add the result of one forward pass."""
        self.seen.update(parts)
        nothing = torch.zeros_like(loss)
        self.values += torch.stack([loss.detach(), *(parts.get(name, nothing) for name in self.names)])


class LossModule(nn.Module):
    """The weighted sum of objectives over a model, all from one forward pass (and one for preference pairs).

    The output layer is computed at the target's positions only: with 49,152 words it costs as much as five decoder layers. What
    the model does to its logits after that layer (scaling, soft caps) stays. The log-softmax is computed once for all objectives.
    """

    def __init__(
        self, model: Any, objectives: Objectives, source: HiddenSource | None = None, policy: OnPolicy | None = None
    ) -> None:
        """`policy`: the loss is that of GRPO over samples, and `objectives` are not used."""
        super().__init__()
        self.model = model
        self.objectives = objectives
        self.policy = policy
        self.names = ("grpo",) if policy else blend.active(objectives)
        self.paired = () if policy else tuple(name for name in objectives.active if name in PAIRED)
        self.table = blend.table(objectives)
        self.source = (source,)  # in a tuple it is no part of this module: it is neither trained nor saved
        self.projections = source.projections(model) if source else None
        self.parts: dict[str, Tensor] = {}
        """Objective -> its term of the last forward pass, detached."""
        self.positions: Tensor | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._at_positions)

    def forward(self, batch: Batch | None, pairs: PreferenceBatch | None = None, place: Place | None = START) -> Tensor:
        """Return the weighted sum of the objectives over all target tokens of `batch`, and over `pairs`, in nats.

        Without a `place` the log-probabilities of the answers of `pairs` [2 P] are returned, or those of the target tokens of
        `batch` [T].
        """
        if place is None and pairs is not None:
            return self.sequence_log_probs(pairs.sequences)
        if place is None:
            assert batch is not None, "there is nothing to read"
            return self.token_log_probs(batch)
        terms = self._of_tokens(batch, place) if batch else []
        terms += self._of_pairs(pairs, place.pair_factor) if pairs else []
        self.parts = {name: term.detach() for name, term in terms}
        return torch.stack([term for _, term in terms]).sum()

    def sequence_log_probs(self, batch: Batch) -> Tensor:
        """Return the log-probability of each row's target tokens [B], nats, float32."""
        log_probs = self.token_log_probs(batch)
        return log_probs.new_zeros(len(batch.ids)).index_add(0, batch.owners, log_probs)

    def token_log_probs(self, batch: Batch) -> Tensor:
        """Return the log-probability of each target token [T], nats, float32."""
        return -nn.functional.cross_entropy(self._run(batch).logits[0].float(), batch.labels, reduction="none")

    def _of_tokens(self, batch: Batch, place: Place) -> list[tuple[str, Tensor]]:
        if self.policy:
            assert batch.policy is not None, "the round gives samples"
            losses = grpo.loss(self.token_log_probs(batch), batch.policy, self.policy)
            return [("grpo", (losses * batch.weights).sum())]
        result = self._run(batch, hidden=self.source[0] is not None)
        states = self.source[0].states(batch, result.hidden_states, self.projections) if self.source[0] else ()
        outputs = Outputs(result.logits[0].float().log_softmax(dim=1), states, place.epoch, place.epochs)
        return [(name, self._term(name, outputs, batch)) for name in self.names]

    def _term(self, name: str, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the sum over tokens of the objective's loss times the tokens' weights and its own weight."""
        weighted = OBJECTIVES[name].loss(outputs, batch, self.objectives.settings(name)) * batch.weights
        shares = [row[self.names.index(name)] for row in self.table]
        if batch.blends is None:
            return shares[0] * weighted.sum()
        return (weighted * weighted.new_tensor(shares)[batch.blends]).sum()

    def _of_pairs(self, pairs: PreferenceBatch, factor: float) -> list[tuple[str, Tensor]]:
        batch = pairs.sequences
        tokens = pairs.reference.new_zeros(len(batch.ids)).index_add(0, batch.owners, torch.ones_like(batch.weights))
        real = pairs.weights > 0
        values = (self.sequence_log_probs(batch), tokens, pairs.reference)
        sides = [side[real] for value in values for side in value.chunk(2)]
        chosen, rejected, chosen_tokens, rejected_tokens, reference_chosen, reference_rejected = sides
        outputs = PairOutputs(chosen, rejected, chosen_tokens, rejected_tokens, reference_chosen, reference_rejected)
        losses = {name: PAIR_OBJECTIVES[name].loss(outputs, self.objectives.settings(name)) for name in self.paired}
        return [(name, factor * self.objectives.weight(name) * loss.sum()) for name, loss in losses.items()]

    def _run(self, batch: Batch, *, hidden: bool = False) -> Any:
        """Run the model; its logits are those of the target tokens [1, T, V]."""
        self.positions = batch.positions
        more = {"output_hidden_states": True} if hidden else {}
        result = self.model(input_ids=batch.ids, **batch.attention(), use_cache=False, **more)
        self.positions = None
        return result

    def _at_positions(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the hidden states [1, T, H] that the output layer reads, of [B, L, H]."""
        return inputs if self.positions is None else (inputs[0].flatten(0, 1)[self.positions].unsqueeze(0),)
