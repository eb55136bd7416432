"""The hook that scores targets within vLLM's steps, on a fake model runner: several requests at once, and in pieces."""

from types import SimpleNamespace

import numpy as np
import torch

from engine.inference.scoring import top
from engine.inference.vllm_scoring import KEY, Piece, ScoringWorker, Wanted, merged, parts

WORDS, HIDDEN = 40, 8
HEAD = torch.randn(WORDS, HIDDEN, generator=torch.Generator().manual_seed(0))


def request(number: int | None, computed: int) -> SimpleNamespace:
    params = SimpleNamespace(extra_args=None if number is None else {KEY: number})
    return SimpleNamespace(sampling_params=params, num_computed_tokens=computed)


class Runner:
    """What the hook reads of vLLM's model runner; `calls` are the rows of each call of the output layer."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.model = SimpleNamespace(compute_logits=self.compute_logits)
        self.requests: dict[str, SimpleNamespace] = {}
        self.input_batch = SimpleNamespace(req_id_to_index={})
        self.query_start_loc = SimpleNamespace(np=np.zeros(1, np.int32))

    def compute_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(hidden))
        return hidden @ HEAD.T

    def _get_prompt_logprobs_dict(self, hidden: torch.Tensor, scheduled: dict[str, int]) -> str:
        return "plain"

    def step(self, worker: ScoringWorker, hidden: torch.Tensor, scheduled: dict[str, int]) -> None:
        self.input_batch.req_id_to_index = {name: at for at, name in enumerate(scheduled)}
        self.query_start_loc.np = np.cumsum([0, *scheduled.values()])
        assert self._get_prompt_logprobs_dict(hidden, scheduled) == "plain"
        for name, count in scheduled.items():
            self.requests[name].num_computed_tokens += count


def test_targets_of_several_requests_are_scored_in_one_call_and_one_that_was_cut_in_two():
    runner, worker = Runner(), ScoringWorker()
    worker.model_runner = runner
    draw = torch.Generator().manual_seed(1)
    states = {name: torch.randn(count, HIDDEN, generator=draw) for name, count in {"a": 6, "b": 5, "c": 4}.items()}
    masks = {"a": None, "b": np.array([[0b1011, 0], [-1, -1]], np.int32)}
    wanted = {
        0: Wanted(3, np.array([7, 8, 9], np.int32), masks["a"]),  # predicted behind the positions 2, 3, 4
        1: Wanted(4, np.array([1, 30], np.int32), masks["b"]),
    }
    runner.requests = {"a": request(0, 0), "b": request(1, 0), "c": request(None, 0)}
    worker.begin_scoring(wanted, 5)
    runner.step(worker, torch.cat([states["a"][:4], states["c"][:2]]), {"a": 4, "c": 2})
    runner.step(worker, torch.cat([states["c"][2:], states["b"], states["a"][4:]]), {"c": 2, "b": 5, "a": 2})
    scores = worker.end_scoring()
    assert runner.calls == [2, 3] and scores.keys() == {0, 1}  # the second step: two of b, one of a
    found = merged(scores[0], 3)
    expected = top(states["a"][2:5] @ HEAD.T, torch.tensor([7, 8, 9]), 5)
    assert found is not None and all(np.allclose(one, other, atol=1e-5) for one, other in zip(found, expected, strict=True))
    ids, logprobs, own, _ = merged(scores[1], 2) or ()
    assert set(ids[0].tolist()) == {0, 1, 3, -1} and np.isclose(np.exp(logprobs[0][ids[0] >= 0]).sum(), 1, atol=1e-5)
    assert np.isclose(own[1], torch.log_softmax(states["b"][4] @ HEAD.T, 0)[30], atol=1e-5)  # a row that is open to all words


def test_parts_have_at_most_so_many_rows_and_a_long_target_is_alone():
    pieces = [Piece(number, 0, 0, np.zeros(count, np.int32), None) for number, count in enumerate((3, 3, 9, 2, 2, 2))]
    assert [[piece.number for piece in part] for part in parts(pieces, 6)] == [[0, 1], [2], [3, 4, 5]]
    assert list(parts([], 6)) == []
