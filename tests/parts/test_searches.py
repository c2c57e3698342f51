"""Searches one iteration at a time: which trials they take, and what they remember of it."""

from __future__ import annotations

import math

import pytest
import torch

from precond.core import Point, Status
from precond.steps.cubic import Cubic, _Space
from precond.steps.gradient_normalized import GradientNormalized
from precond.steps.gradient_regularized import GradientRegularized

F64 = torch.float64
G = torch.tensor([[3.0, -4.0]], dtype=F64)
X = torch.ones(1, 2, dtype=F64)


class Products:
    """A symmetric matrix with products of rows."""

    def __init__(self, matrix):
        self.matrix = matrix

    def matvec(self, x):
        return x @ self.matrix


class Played:
    """An objective whose trials have these losses and gradients, one after the other, the last one for good."""

    def __init__(self, *trials, hessian=None):
        self.trials, self.matrix, self.seen = list(trials), hessian, []

    def hessian(self, x):
        return Products(self.matrix)

    def point(self, x):
        loss, gradient = self.trials[min(len(self.seen), len(self.trials) - 1)]
        self.seen.append(x)
        return Point(x, torch.tensor(loss, dtype=F64), gradient)


@pytest.mark.parametrize(
    ("rho", "sigma"),
    [(0.95, 5.0), (0.89, 8.0), (0.5, 8.0), (0.11, 8.0)],
)
def test_a_cubic_step_changes_the_weight_by_how_well_the_model_did(rho, sigma):
    hessian = torch.diag(torch.tensor([1.0, 2.0], dtype=F64))
    _, decrease = _Space(Products(hessian), G, 5.0).minimize(8.0, 0.1)
    rule = Cubic(sigma=8.0)
    state = rule.init(X)
    played = Played((-rho * decrease, G / 2), hessian=hessian)
    start = Point(X, torch.tensor(0.0, dtype=F64), G)
    advance = rule.advance(state, start, lambda shift: G, played)
    assert len(played.seen) == 1
    assert advance.point.x is played.seen[0]
    assert float(state.sigma) == sigma


def test_a_cubic_step_that_does_not_decrease_enough_is_tried_again_with_twice_the_weight():
    hessian = torch.diag(torch.tensor([1.0, 2.0], dtype=F64))
    decreases = [_Space(Products(hessian), G, 5.0).minimize(s, 0.1)[1] for s in (8.0, 16.0)]
    rule = Cubic(sigma=8.0)
    state = rule.init(X)
    played = Played((-0.09 * decreases[0], G / 2), (-0.5 * decreases[1], G / 2), hessian=hessian)
    rule.advance(state, Point(X, torch.tensor(0.0, dtype=F64), G), lambda shift: G, played)
    assert len(played.seen) == 2
    assert float(state.sigma) == 16.0


@pytest.mark.parametrize("seed", range(4))
def test_the_subproblem_is_as_accurate_as_asked_also_where_the_step_is_long(seed):
    matrix = torch.diag(torch.logspace(-4, 0, 40, dtype=F64))
    gradient = torch.randn(1, 40, generator=torch.Generator().manual_seed(seed), dtype=F64)
    size, kappa, sigma = float(gradient.norm()), 0.1, 1e-4
    step, _ = _Space(Products(matrix), gradient, size).minimize(sigma, kappa)
    length = float(step.norm())
    left = float((gradient + step @ matrix + sigma * length * step).norm())
    assert length > 10
    assert left <= kappa * size * (1 + 1e-9)


def test_the_krylov_space_of_the_cubic_model_stays_orthonormal():
    matrix = torch.diag(torch.logspace(-12, 0, 60, dtype=F64))
    space = _Space(Products(matrix), torch.ones(1, 60, dtype=F64), 60**0.5)
    while not (space._diagonal and space._complete) and len(space._diagonal) < 40:
        space._grow()
    gram = space._basis @ space._basis.mT
    assert len(gram) > 20
    assert float((gram - torch.eye(len(gram), dtype=F64)).abs().max()) < 1e-14


def test_from_the_third_failure_on_the_factor_doubles():
    shifts = []

    def direction(shift):
        shifts.append(shift)
        return torch.full_like(X, 0.1)

    rule = GradientRegularized(h=2.0, patience=3, max_trials=7)
    start = Point(X, torch.tensor(0.0, dtype=F64), G)
    advance = rule.advance(rule.init(X), start, direction, Played((1.0, 2 * G)))
    assert advance.failure is Status.FAILED_LINE_SEARCH
    estimates = [shift**2 / 5.0 for shift in shifts]
    assert estimates == pytest.approx([1, 2, 4, 16, 128, 2048, 65536])


def test_where_values_differ_by_rounding_the_gradient_along_the_step_decides():
    """Asked for is ``-<g+, d> >= ||g+||^2 / (4 lambda)``: with ``d = -a g``, ``g+ = g``, ``a >= gamma / 20``."""
    for a, trials in ((0.051, 1), (0.049, 2), (0.026, 2), (0.024, 3)):
        rule = GradientNormalized()
        state = rule.init(X)
        played = Played((1e12 - 1.0, G))
        rule.advance(state, Point(X, torch.tensor(1e12, dtype=F64), G), lambda shift, a=a: -a * G, played)
        assert len(played.seen) == trials
        assert float(state.gamma) == 2.0 * 0.5 ** (trials - 1)


def test_a_radius_does_not_fall_below_a_tenth_of_the_floor():
    rule = GradientNormalized(floor=1e-3)
    state = rule.init(X)
    state.gamma.fill_(1e-9)
    advance = rule.advance(state, Point(X, torch.tensor(1.0, dtype=F64), G), lambda shift: -G, Played((0.0, G / 1e3)))
    assert math.isfinite(float(advance.point.loss))
    assert float(state.gamma) == 1e-4
