"""Stochastic rounding: unbiased, exact where it can be, and worth it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from precond.core import Role
from precond.optim import Optimizer
from precond.recipes.first_order import adamw
from precond.storage.bfloat16 import StochasticBFloat16

STORAGE = StochasticBFloat16()


def encoded(working):
    resting = STORAGE.rest(torch.zeros_like(working), Role.SIGNED)
    resting.encode(working)
    return resting.decode()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [1.001, -1.003, 3e-39, -7.77e30])
def test_rounds_to_a_neighbour_and_is_right_in_the_mean(value, dtype):
    torch.manual_seed(0)
    working = torch.full((1, 20000), value, dtype=dtype)
    result = encoded(working)
    assert result.unique().numel() == 2
    gap = result.max() - result.min()
    assert result.min() <= working[0, 0] <= result.max()
    assert abs(result.double().mean() - value) < 0.02 * gap


def test_what_bfloat16_holds_is_kept_and_so_is_what_is_not_finite():
    exact = torch.linspace(-3, 3, 99).bfloat16().float().view(1, -1)
    assert torch.equal(encoded(exact), exact)
    odd = torch.tensor([[torch.inf, -torch.inf, torch.nan, 0.0]])
    assert torch.equal(encoded(odd).nan_to_num(nan=7.0), odd.nan_to_num(nan=7.0))


def test_a_slow_average_arrives_where_rounding_to_nearest_stands_still():
    torch.manual_seed(0)
    resting = STORAGE.rest(torch.zeros(1, 500), Role.SIGNED)
    nearest = torch.zeros(1, 500, dtype=torch.bfloat16)
    for _ in range(3000):
        resting.encode(torch.lerp(resting.decode(), torch.ones(()), 1e-3))
        nearest.copy_(torch.lerp(nearest.float(), torch.ones(()), 1e-3))
    expected = 1 - 0.999**3000
    assert abs(resting.decode().mean() - expected) < 0.01
    assert abs(nearest.float().mean() - expected) > 0.3


def test_adamw_with_half_the_state_trains_as_well():
    def final(method):
        torch.manual_seed(0)
        w = torch.zeros(20, 5, requires_grad=True)
        solution = torch.randn(20, 5)
        optimizer = Optimizer([w], method, lr=0.05)
        for _ in range(200):
            w.grad = w.detach() - solution + 0.1 * torch.randn(20, 5)
            optimizer.step()
        return float((w.detach() - solution).square().mean()), optimizer.state_bytes()

    full, bytes_full = final(adamw())
    half, bytes_half = final(dataclasses.replace(adamw(), storage=STORAGE))
    assert half < 1.2 * full
    assert bytes_half < 0.6 * bytes_full
