"""Polynomial-preconditioned gradient methods against plain loops, and the claim on a spectrum with outliers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import precond
from precond.core import Method
from precond.operators import as_operator
from precond.preconditioners.identity import Identity
from precond.preconditioners.of_matrix import OfMatrix
from precond.preconditioners.symmetric_polynomial import SymmetricPolynomial
from precond.recipes.polynomial_gradient import krylov_gradient, polynomial_fast_gradient, polynomial_gradient
from precond.steps.preconditioned_gradient import FastGradient, GradientStep
from tests.papers.linear_toys import symmetric
from tests.papers.test_symmetric_polynomial import definition

VALUES = np.concatenate([[1e4, 1e3], np.linspace(1, 2, 18)])
B = symmetric(VALUES)
C = np.random.default_rng(0).standard_normal(20)


def quadratic(x):
    return (x @ torch.from_numpy(B) @ x) / 2 - torch.from_numpy(C) @ x


def loop(direction, steps, fast=False, m=1.0):
    """Return the iterates of the paper's method with ``M`` doubled and halved, on the quadratic."""

    def f(x):
        return x @ B @ x / 2 - C @ x

    x, before, t, seen = np.zeros(20), np.zeros(20), 0.0, []
    for _ in range(steps):
        after = (1 + np.sqrt(1 + 4 * t * t)) / 2
        y = x + ((t - 1) / after if fast and t > 0 else 0) * (x - before)
        g = B @ y - C
        d = direction(g)
        while f(y - d / m) > f(y) - g @ d / (2 * m) + 1e-14 * (abs(f(y)) + abs(f(y - d / m))):
            m *= 2
        before, x, t, m = x, y - d / m, after, m / 2
        seen.append(x)
    return seen


def cg(g, steps):
    x, r = np.zeros(20), g.copy()
    p = r.copy()
    for _ in range(steps):
        a = r @ r / (p @ B @ p)
        x, new = x + a * p, r - a * (B @ p)
        p, r = new + new @ new / (r @ r) * p, new
    return x


def first_points(method, steps):
    """Return where the method is after each of a few steps."""
    return [
        precond.minimize(quadratic, torch.zeros(20).double(), method=method, max_iterations=k).x.numpy()
        for k in range(1, steps + 1)
    ]


def scaled(tau):
    """Return ``P_tau`` scaled as ours is: divided by the number of its terms and the mean eigenvalue to the power."""
    from math import comb

    return definition(B / VALUES.mean(), tau) / comb(20, tau)


@pytest.mark.parametrize("tau", [1, 2])
def test_follows_the_paper(tau):
    p = scaled(tau)
    for ours, theirs in zip(first_points(polynomial_gradient(degree=tau), 4), loop(lambda g: p @ g, 4), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)
    fast = loop(lambda g: p @ g, 3, fast=True)
    for ours, theirs in zip(first_points(polynomial_fast_gradient(degree=tau), 3), fast, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)


def test_the_krylov_step_is_conjugate_gradients():
    """Started at 0.9, ``M`` never meets the tie at one, where rounding would decide."""
    method = dataclasses.replace(krylov_gradient(degree=2), step=GradientStep(0.9))
    for ours, theirs in zip(first_points(method, 3), loop(lambda g: cg(g, 3), 3, m=0.9), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-8)


def test_cutting_two_outliers_off_saves_most_iterations():
    """The headline."""
    counts = {}
    for name, method in {
        "gradient": Method(preconditioner=Identity(), step=GradientStep()),
        "fast": Method(preconditioner=Identity(), step=FastGradient()),
        "polynomial": polynomial_gradient(degree=2),
        "fast polynomial": polynomial_fast_gradient(degree=2),
        "krylov": krylov_gradient(degree=2),
    }.items():
        result = precond.minimize(quadratic, torch.zeros(20).double(), method=method, max_iterations=300)
        counts[name] = result.iterations if result.converged else 10**9
    assert counts["gradient"] == counts["fast"] == 10**9
    assert counts["fast polynomial"] < counts["polynomial"] < 300
    assert counts["krylov"] <= counts["fast polynomial"]


def test_a_fixed_matrix_serves_an_objective_that_is_not_quadratic():
    a = np.random.default_rng(1).standard_normal((60, 8)) * np.geomspace(1, 30, 8)
    t = torch.from_numpy(a)

    def f(x):
        return torch.nn.functional.softplus(t @ x).sum() - (t @ x).sum() / 3 + 5e-4 * (x @ x)

    part = OfMatrix(SymmetricPolynomial(3), as_operator(a.T @ a))
    method = Method(preconditioner=part, step=FastGradient())
    result = precond.minimize(f, torch.zeros(8).double(), method=method, max_iterations=2000)
    assert result.converged, result.message
    begun = precond.minimize(f, torch.zeros(8).double(), method=method, max_iterations=9)
    assert begun.work.hvps == 0, "only the certificate of a minimum takes products with the Hessian"
