"""What a step of the optimizer does in ZeRO stage 0. Without DeepSpeed."""

import pytest
import torch

from engine.students.training.zero import skip_not_finite


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_whose_gradient_is_not_finite_is_left_out(bad: float) -> None:
    weights = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizer = torch.optim.AdamW(weights, lr=0.1)
    optimizer.register_step_pre_hook(skip_not_finite)
    weights[0].grad, weights[1].grad = torch.ones(3), torch.tensor([0.0, bad, 0.0])
    optimizer.step()
    assert all(torch.equal(each, torch.ones(3)) for each in weights) and not optimizer.state
    for each in weights:
        each.grad = torch.ones(3)
    optimizer.step()
    assert not any(torch.equal(each, torch.ones(3)) for each in weights)
