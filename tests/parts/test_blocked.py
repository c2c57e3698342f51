"""Tiles: cutting, putting together, and preconditioning each as a tensor of its own."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from precond.core import BadInputError, Evidence, IncompatibleError, named_tensors
from precond.math.tensors.tiles import from_tiles, tile_sides, to_tiles
from precond.optim import Optimizer, estimate_memory
from precond.preconditioners.blocked import Blocked
from precond.preconditioners.diagonal import Diagonal
from precond.preconditioners.eigenbasis import Eigenbasis
from precond.preconditioners.kronecker import Kronecker
from precond.preconditioners.lbfgs import LBFGS
from precond.preconditioners.rotate import Rotate
from precond.recipes.distributed import distributed_shampoo
from precond.recipes.kronecker import scalable_shampoo
from precond.recipes.low_bit import shampoo_4bit, shampoo_4bit_cholesky

INNER = [Kronecker(), Rotate(Eigenbasis(), Diagonal(0.95))]


@pytest.mark.parametrize(
    ("dims", "size", "sides"),
    [
        ((8, 4), 4, ((2, 4), (1, 4))),
        ((5,), 4, ((2, 3),)),
        ((3, 9), 4, ((1, 3), (3, 3))),
        ((10, 1), 4, ((3, 4), (1, 1))),
    ],
)
def test_axes_are_cut_evenly(dims: tuple[int, ...], size: int, sides: tuple[tuple[int, int], ...]) -> None:
    assert tile_sides(dims, size) == sides


@pytest.mark.parametrize("dims", [(8, 4), (5,), (3, 9), (4, 5, 6), (1, 7, 1, 2)])
def test_tiles_put_together_are_the_tensor(dims: tuple[int, ...]) -> None:
    v = torch.randn(3, *dims)
    sides = tile_sides(dims, 3)
    tiles = to_tiles(v, sides)
    assert max(tiles.shape[1:]) <= 3
    assert torch.equal(from_tiles(tiles, sides, v.shape), v)
    assert torch.isclose(tiles.square().sum(), v.square().sum())


def test_the_first_tile_is_the_first_corner() -> None:
    v = torch.arange(24.0).reshape(1, 4, 6)
    tiles = to_tiles(v, tile_sides((4, 6), 3))
    assert torch.equal(tiles[0], v[0, :2, :3])
    assert torch.equal(tiles[1], v[0, :2, 3:])


def fed(part, like, gradients):
    state = part.init(torch.zeros_like(like))
    for step, gradient in enumerate(gradients):
        evidence = Evidence(gradient=gradient)
        if step == 0:
            part.prime(state, evidence)
        part.observe(state, evidence)
        part.refresh(state)
    return state


@pytest.mark.parametrize("inner", INNER, ids=lambda part: type(part).__name__)
def test_each_tile_is_treated_as_a_tensor_of_its_own(inner) -> None:
    gradients = [torch.randn(2, 6, 3, dtype=torch.float64) for _ in range(5)]
    v = torch.randn(2, 6, 3, dtype=torch.float64)
    whole = Blocked(3, inner)
    result = whole.apply(fed(whole, v, gradients), v)
    for rows in (slice(0, 3), slice(3, 6)):
        alone = inner.apply(fed(inner, v[:, rows], [g[:, rows] for g in gradients]), v[:, rows])
        torch.testing.assert_close(result[:, rows], alone)


@pytest.mark.parametrize("inner", INNER, ids=lambda part: type(part).__name__)
def test_without_need_for_tiles_it_is_the_inner_part(inner) -> None:
    gradients = [torch.randn(2, 4, 4, dtype=torch.float64) for _ in range(4)]
    v = torch.randn(2, 4, 4, dtype=torch.float64)
    whole = Blocked(4, inner)
    assert torch.equal(whole.apply(fed(whole, v, gradients), v), inner.apply(fed(inner, v, gradients), v))


def test_a_failed_tile_is_counted() -> None:
    part = Blocked(2, Kronecker())
    state = part.init(torch.zeros(1, 4, 2))
    gradient = torch.ones(1, 4, 2)
    gradient[0, 0, 0] = torch.nan
    part.observe(state, Evidence(gradient=gradient))
    assert part.refresh(state).failures == 2  # both modes of the first of two tiles
    result = part.apply(state, torch.ones(1, 4, 2))
    assert bool(torch.isfinite(result).all())


def test_coordinates_have_the_shape_that_is_announced() -> None:
    part = Blocked(3, INNER[1])
    v = torch.randn(2, 7, 5)
    state = fed(part, v, [v])
    within = part.enter(state, v)
    assert within.shape == part.coordinates(v).shape == (2, 6, 3, 3)
    torch.testing.assert_close(part.leave(state, within), v)


def test_nothing_is_copied_between_state_and_tiles() -> None:
    part = Blocked(2, Kronecker())
    state = part.init(torch.zeros(2, 4, 4))
    before = {name: t.data_ptr() for name, t in named_tensors(state)}
    fed_state = dataclasses.replace(state)
    part.observe(fed_state, Evidence(gradient=torch.randn(2, 4, 4)))
    part.refresh(fed_state)
    assert {name: t.data_ptr() for name, t in named_tensors(fed_state)} == before
    assert float(fed_state.inner.factors[0].abs().max()) > 1e-3


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(BadInputError, match="at least 1"):
        Blocked(0, Kronecker())
    with pytest.raises(IncompatibleError, match="one vector"):
        Blocked(2, LBFGS())


def test_an_axis_that_is_too_long_is_not_cut() -> None:
    assert tile_sides((9, 5), 4, longest=8) == ((1, 9), (2, 3))
    assert tile_sides((8, 5), 4, longest=8) == ((2, 4), (2, 3))
    blocked = Blocked(4, Kronecker(eps=0.1, max_dim=8), longest=8)
    whole = Kronecker(eps=0.1, max_dim=8)  # leaves the long axis as it is, too
    gradient = torch.randn(2, 9, 3, dtype=torch.float64)
    states = blocked.init(gradient), whole.init(gradient)
    for part, state in zip((blocked, whole), states, strict=True):
        part.observe(state, Evidence(gradient=gradient))
        part.refresh(state)
    torch.testing.assert_close(blocked.apply(states[0], gradient), whole.apply(states[1], gradient))


@pytest.mark.parametrize("recipe", [scalable_shampoo, distributed_shampoo, shampoo_4bit, shampoo_4bit_cholesky])
def test_very_long_axes_cost_no_factors(recipe) -> None:
    weight = torch.nn.Parameter(torch.randn(20000, 4))
    assert estimate_memory([("table", weight)], recipe()) < 24 * weight.numel()
    optimizer = Optimizer([weight], recipe(), lr=0.1)
    before = weight.detach().clone()
    for _ in range(2):
        weight.grad = weight.detach().clone()
        optimizer.step()
    assert float(weight.norm()) < float(before.norm())
