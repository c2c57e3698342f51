"""Adaptive cubic regularization against dense minimization of the same cubic models."""

import numpy as np
import pytest
import scipy.optimize
import torch

import precond
from precond.recipes.regularized import adaptive_cubic
from precond.steps.cubic import _Space
from tests.papers.smooth_toys import Logistic


class Dense:
    """A symmetric matrix with products of rows."""

    def __init__(self, matrix):
        self.matrix, self.products = matrix, 0

    def matvec(self, x):
        self.products += len(x)
        return x @ self.matrix


def cubic_step(h, g, sigma):
    """The global minimizer of the cubic model, by the eigenvalues of the matrix and bracketing."""
    values, vectors = np.linalg.eigh(h)
    c = -(vectors.T @ g)
    low = max(0.0, -values[0])

    def gap(m):
        return np.linalg.norm(c / (values + m)) - m / sigma

    m = scipy.optimize.brentq(gap, low * (1 + 1e-14) + 1e-14, low + 1e6, xtol=1e-15, rtol=1e-15)
    return vectors @ (c / (values + m))


def reference(problem, x, iterations, sigma=1.0):
    points = [x]
    for _ in range(iterations):
        f, g, h = problem.f(x), problem.g(x), problem.h(x)
        while True:
            d = cubic_step(h, g, sigma)
            model = -(g @ d) - d @ h @ d / 2 - sigma / 3 * np.linalg.norm(d) ** 3
            rho = (f - problem.f(x + d)) / model
            if rho > 0.9:
                sigma = max(min(sigma, np.linalg.norm(g)), np.finfo(float).eps)
            elif rho < 0.1:
                sigma *= 2
            if rho >= 0.1:
                break
        x = x + d
        points.append(x)
    return np.array(points)


def test_the_same_points_as_exact_models():
    problem = Logistic()
    x0 = np.linspace(-3.0, 3.0, 6)
    want, got = reference(problem, x0, 6), []
    precond.minimize(
        problem.f, x0, jac=problem.g, hessp=lambda x, p: problem.h(x) @ p, method=adaptive_cubic(kappa=1e-13), tol=0.0,
        max_iterations=6, callback=lambda event: got.append(event.x.copy()),
    )  # fmt: skip
    np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("sigma", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize("shift", [8.0, 0.0, -8.0])
def test_subproblem_definite_or_not(sigma, shift):
    rng = np.random.default_rng(1)
    root = rng.normal(size=(7, 7))
    h, g = (root + root.T) / 2 + shift * np.eye(7), rng.normal(size=7)
    step, decrease = _Space(
        Dense(torch.from_numpy(h)), torch.from_numpy(g)[None], float(np.linalg.norm(g))
    ).minimize(sigma, 1e-14)  # fmt: skip
    d = step[0].numpy()
    np.testing.assert_allclose(d, cubic_step(h, g, sigma), rtol=1e-6, atol=1e-8)
    assert decrease == pytest.approx(-g @ d - d @ h @ d / 2 - sigma / 3 * np.linalg.norm(d) ** 3)


def test_refused_steps_cost_no_products():
    h, g = torch.diag(torch.tensor([1.0, 2.0, -3.0]).double()), torch.tensor([[1.0, 1.0, 1.0]]).double()
    operator = Dense(h)
    space = _Space(operator, g, float(g.norm()))
    space.minimize(1.0, 1e-10)
    before = operator.products
    space.minimize(2.0, 1e-10)
    assert operator.products == before == 3


def test_headline_fewer_evaluations_than_a_trust_region():
    start = np.tile([-1.2, 1.0], 10)
    counts = {}
    for name in ("adaptive-cubic", "trust-region-newton"):
        result = precond.minimize(
            scipy.optimize.rosen, start, jac=scipy.optimize.rosen_der, hessp=scipy.optimize.rosen_hess_prod,
            method=name,
        )  # fmt: skip
        assert result.converged
        counts[name] = result.work.gradients
    assert counts["adaptive-cubic"] < counts["trust-region-newton"]
