"""Which parameters decay, and the learning rate of each step."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from sigma_pipeline.jobs.config import OptimizerConfig
from sigma_pipeline.jobs.optimizer import (
    build_adamw,
    learning_rate,
    parameter_groups,
    set_learning_rate,
)
from sigma_pipeline.jobs.sigma_objective import SigmaObjective
from sigma_pipeline.model.config import ModelConfig

CONFIG = OptimizerConfig(base_lr=1e-3, min_lr=1e-5, warmup_epochs=2)


def rates(config: OptimizerConfig, steps: int, *, epochs: int = 10) -> list[float]:
    return [learning_rate(step, config, 5, epochs, 512) for step in range(steps)]


def test_the_rate_starts_at_zero_and_reaches_the_scaled_peak_after_the_warm_up() -> None:
    curve = rates(CONFIG, 11)

    assert curve[0] == 0
    assert curve[10] == pytest.approx(2e-3)
    assert curve[5] == pytest.approx(1e-3)


def test_the_rate_falls_along_a_cosine_to_the_scaled_minimum() -> None:
    curve = rates(CONFIG, 50)[10:]

    assert all(later < earlier for earlier, later in pairwise(curve))
    assert curve[20] == pytest.approx((2e-3 + 2e-5) / 2)
    assert learning_rate(50, CONFIG, 5, 10, 512) == pytest.approx(2e-5)


def test_a_longer_schedule_stretches_the_cosine_over_its_own_length() -> None:
    stretched = CONFIG.model_copy(update={"schedule_epochs": 20})

    assert rates(stretched, 50) == rates(CONFIG, 50, epochs=20)


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    config = CONFIG.model_copy(update={"warmup_epochs": 0})

    assert learning_rate(0, config, 5, 10, 256) == pytest.approx(1e-3)


class Named(nn.Module):
    """Parameters of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.norm = nn.LayerNorm(4)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.prototypes = nn.Parameter(torch.zeros(5, 4))
        self.frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)


def test_only_matrices_decay_but_not_mask_token_and_prototypes() -> None:
    model = Named()

    groups = parameter_groups(model.named_parameters(), CONFIG)
    plain, decaying = sorted(groups, key=lambda group: group["weight_decay"])

    assert [id(p) for p in decaying["params"]] == [id(model.linear.weight)]
    assert (decaying["weight_decay"], plain["weight_decay"]) == (0.05, 0.0)
    assert {id(p) for p in plain["params"]} == {
        id(p) for p in (model.linear.bias, *model.norm.parameters(), model.mask_token)
    } | {id(model.prototypes)}


def test_a_group_without_parameters_is_left_out() -> None:
    assert len(parameter_groups(nn.LayerNorm(4).named_parameters(), CONFIG)) == 1


def test_target_branch_and_prototypes_get_their_own_share_of_the_rate() -> None:
    model = Named()
    model.head = nn.Sequential(nn.Linear(2, 2, bias=False))
    objective = SigmaObjective(ModelConfig(), 0, target_lr_scale=0.1)
    groups = parameter_groups(model.named_parameters(), CONFIG, objective.lr_scale)

    set_learning_rate(groups, 2.0)

    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert rates[id(model.prototypes)] == rates[id(model.head[0].weight)] == pytest.approx(0.2)
    assert rates[id(model.linear.weight)] == rates[id(model.mask_token)] == 2.0


def test_the_optimizer_takes_no_step_before_it_is_given_a_rate() -> None:
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    optimizer = build_adamw(model, OptimizerConfig())
    model(torch.ones(1, 2)).sum().backward()

    optimizer.step()

    assert torch.equal(model.weight, before)
