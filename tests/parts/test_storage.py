"""Storages: rounding that is unbiased and exact where it can be, codes that are repaired, errors that come back."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from precond.core import Role
from precond.optim import Optimizer
from precond.recipes.first_order import adamw
from precond.storage.bfloat16 import StochasticBFloat16
from precond.storage.blockwise import Blockwise
from precond.storage.compensated import Compensated
from precond.storage.packed import Packed

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


def basis(n: int = 64) -> torch.Tensor:
    """Return one orthogonal matrix in a batch."""
    return torch.linalg.qr(torch.randn(1, n, n, generator=torch.Generator().manual_seed(0))).Q


def skew(q: torch.Tensor) -> float:
    """Return how far a basis is from orthogonal."""
    return float(torch.linalg.matrix_norm(q.mT @ q - torch.eye(q.shape[-1])))


def test_bases_of_four_bits_are_made_orthogonal_again_when_they_wake():
    kept, repaired = (Blockwise(4, 64, 0, rectify=steps).rest(basis(), Role.ORTHOGONAL).decode() for steps in (0, 2))
    assert skew(repaired) < skew(kept) / 5
    assert float((repaired - basis()).norm()) < 0.2 * float(basis().norm())


def test_small_tensors_rest_as_they_work():
    small, large = torch.ones(2, 4095), torch.ones(2, 4096)
    assert Blockwise().rest(small, Role.SIGNED) is small
    assert Blockwise().rest(large, Role.SIGNED) is not large
    triangle = torch.ones(2, 63, 63)
    assert Compensated().rest(triangle, Role.TRIANGULAR) is triangle


def test_a_packed_triangle_takes_the_bytes_that_were_asked_for():
    matrices = torch.randn(1, 10, 10)
    for dtype, size in ((None, 4), (torch.bfloat16, 2)):
        triangle = Packed(dtype).rest(matrices @ matrices.mT, Role.SYMMETRIC).triangle
        assert triangle.numel() * triangle.element_size() == 55 * size


def test_errors_of_rounding_come_back():
    """The same factor written again and again is right in the mean, though each time it is a code."""
    factor = torch.linalg.cholesky(basis() @ torch.diag(torch.linspace(1.0, 2.0, 64)) @ basis().mT)
    resting = Compensated(decay=0.0, least=0).rest(factor, Role.TRIANGULAR)
    once = resting.decode()
    total = torch.zeros_like(factor)
    for _ in range(50):
        resting.encode(factor)
        total += resting.decode() / 50
    assert float((total - factor).norm()) < 0.5 * float((once - factor).norm())


def test_the_smallest_coded_triangle_has_the_least_entries():
    triangle = torch.ones(2, 64, 64)
    assert Compensated(least=4096).rest(triangle, Role.TRIANGULAR) is not triangle
    assert Compensated(least=4097).rest(triangle, Role.TRIANGULAR) is triangle


def test_codes_of_what_is_not_negative_reach_down_to_a_ten_thousand_millionth():
    working = torch.logspace(-8, 0, 64).repeat(1, 64)
    found = Blockwise().rest(working, Role.NON_NEGATIVE).decode()
    assert float((found / working).log().abs().max()) < 1.0


def test_not_a_number_is_kept_whatever_its_bits():
    odd = torch.tensor([[0x7FFFFFFF, 0x7FC00000, -1]], dtype=torch.int32).view(torch.float32)
    assert bool(odd.isnan().all())
    assert bool(encoded(odd).isnan().all())


def test_only_roots_are_filled_on_both_sides_when_they_wake():
    matrices = torch.randn(2, 6, 6)
    matrices = matrices @ matrices.mT
    assert torch.equal(Packed().rest(matrices, Role.ROOT).decode(), matrices.tril() + matrices.tril(-1).mT)
    assert torch.equal(Packed().rest(matrices, Role.SYMMETRIC).decode(), matrices.tril())
