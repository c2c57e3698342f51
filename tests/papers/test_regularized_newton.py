"""Gradient-regularized Newton (Mishchenko, arXiv 2112.02089) against dense solves in NumPy."""

import itertools
import math

import numpy as np
import pytest
import torch

import precond
from precond.recipes.regularized import regularized_newton
from tests.papers.smooth_toys import Logistic, Rosenbrock, path


def fixed(problem, x, h, iterations):
    """Equation (4) of the paper, with a constant H."""
    points = [x]
    for _ in range(iterations):
        g = problem.g(x)
        lam = math.sqrt(h * np.linalg.norm(g))
        x = x - np.linalg.solve(problem.h(x) + lam * np.eye(len(x)), g)
        points.append(x)
    return np.array(points)


def searched(problem, x, h, iterations):
    """The paper's search: start from H / 2, double until both tests pass."""
    points, trials = [x], 0
    for _ in range(iterations):
        f, g, h = problem.f(x), problem.g(x), h / 4
        while True:
            h, trials = 2 * h, trials + 1
            lam = math.sqrt(h * np.linalg.norm(g))
            new = x - np.linalg.solve(problem.h(x) + lam * np.eye(len(x)), g)
            r = np.linalg.norm(new - x)
            if problem.f(new) <= f - 2 / 3 * lam * r**2 and np.linalg.norm(problem.g(new)) <= 2 * lam * r:
                break
        x = new
        points.append(x)
    return np.array(points), trials


@pytest.mark.parametrize("h", [0.3, 30.0])
def test_fixed_h_makes_the_same_iterates(h):
    problem, x0 = Logistic(), np.linspace(-1.0, 1.0, 6)
    got = path(problem, x0, regularized_newton(h=h, search=False, fraction=1e-13), 8)
    np.testing.assert_allclose(got, fixed(problem, x0, h, 8), rtol=1e-6, atol=1e-8)


def test_search_makes_the_same_iterates():
    # this start needs at most two failures in one iteration, so that deviation 2 does not act
    problem, x0 = Logistic(), np.linspace(-1.0, 1.0, 6)
    want, trials = searched(problem, x0, 1.0, 6)
    got = path(problem, x0, regularized_newton(h=1.0, fraction=1e-13), 6)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)
    assert trials > 6


def test_every_accepted_step_passes_both_tests_with_inexact_solves():
    problem = Logistic(m=100, n=10, lam=1e-6)
    points = path(problem, np.full(10, 3.0), regularized_newton(), 60)
    points = np.array([x for x in points if np.linalg.norm(problem.g(x)) > 1e-6])  # before rounding decides
    assert len(points) > 8
    for x, new in itertools.pairwise(points):
        r = np.linalg.norm(new - x)
        # both tests hold for one lambda: between what the gradient test asks and what the decrease allows
        smallest = np.linalg.norm(problem.g(new)) / (2 * r)
        largest = (problem.f(x) - problem.f(new)) / (2 / 3 * r**2)
        assert smallest <= largest * (1 + 1e-6) + 1e-12


def test_global_rate_on_a_degenerate_convex_function():
    """The headline: f - f* = O(1/k^2) from any start, where the Hessian is singular at the solution."""

    def cube(x):  # Hessian Lipschitz with constant 2 in each coordinate: H = L2 / 2 = 1
        return (x.abs() ** 3).sum() / 3

    losses = []
    precond.minimize(
        cube, torch.tensor([5.0, -0.3, 2.0], dtype=torch.float64), method=regularized_newton(h=1.0, search=False),
        tol=1e-14, max_iterations=80, callback=lambda event: losses.append(event.loss),
    )  # fmt: skip
    k = np.arange(1, len(losses))
    scaled = np.array(losses[1:]) * k**2
    assert (np.diff(losses) < 0).all()
    assert scaled[-1] < scaled[len(scaled) // 2] < scaled.max()


def test_converges_where_newton_itself_diverges():
    """log(e^x + e^-x): Newton's method leaves every start beyond 1.09; the regularized one does not."""

    def fun(x):
        return torch.logaddexp(x, -x).sum()

    x = 2.0
    for _ in range(2):
        x -= math.tanh(x) * math.cosh(x) ** 2
    assert abs(x) > 100
    for name in (regularized_newton(h=0.39, search=False), regularized_newton()):
        result = precond.minimize(fun, torch.tensor([2.0], dtype=torch.float64), method=name, tol=1e-10)
        assert result.converged, result.message
        assert abs(result.x.item()) < 1e-9


def test_superlinear_of_order_three_halves():
    problem = Logistic(m=60, n=8, lam=0.1)
    method = regularized_newton(h=1.0, search=False, fraction=1e-10)
    result = precond.minimize(problem.fun, torch.zeros(8).double(), method=method, tol=1e-11)
    assert result.converged
    g = np.array([norm for norm in result.history if 1e-12 < norm < 1e-2])
    orders = np.diff(np.log(g[1:])) / np.diff(np.log(g[:-1]))
    assert orders.max() > 1.35


def test_indefinite_start_and_far_too_small_h():
    problem = Rosenbrock()
    result = precond.minimize(problem.fun, torch.tensor([-1.2, 1, -1.2, 1]).double(), method="regularized-newton")
    assert result.converged, result.message
    eager = precond.minimize(problem.fun, torch.full((4,), 30.0).double(), method=regularized_newton(h=1e-12))
    assert eager.converged, eager.message
