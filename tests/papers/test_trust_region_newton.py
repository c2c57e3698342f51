"""Truncated CG in a trust region against SciPy's implementation of the same algorithms, and dense checks of steps."""

import numpy as np
import pytest
import scipy.optimize
import torch

import precond
from precond.recipes.regularized import trust_region_newton
from precond.steps.steihaug import truncated_newton


class Dense:
    """A symmetric matrix with products of rows."""

    def __init__(self, matrix):
        self.matrix = matrix

    def matvec(self, x):
        return x @ self.matrix


def shaped(inverse):
    return lambda shift, v: -v @ inverse


@pytest.mark.parametrize("n", [4, 10])
def test_the_same_points_as_scipy(n):
    start = np.tile([-1.2, 1.0], n // 2)
    want, got = [start], []
    scipy.optimize.minimize(
        scipy.optimize.rosen, start, jac=scipy.optimize.rosen_der, hessp=scipy.optimize.rosen_hess_prod,
        method="trust-ncg", callback=lambda x: want.append(x.copy()), options={"maxiter": 30, "gtol": 1e-12},
    )  # fmt: skip
    want = [x for i, x in enumerate(want) if i == 0 or not np.array_equal(x, want[i - 1])]  # refused steps left out
    precond.minimize(
        scipy.optimize.rosen, start, jac=scipy.optimize.rosen_der, hessp=scipy.optimize.rosen_hess_prod,
        method="trust-region-newton", tol=1e-12, max_iterations=len(want) - 1,
        callback=lambda event: got.append(event.x.copy()),
    )  # fmt: skip
    assert len(got) == len(want) > 15
    np.testing.assert_allclose(got, want, rtol=1e-7)


@pytest.mark.parametrize("radius", [1e-2, 0.3, 1.0, 100.0])
@pytest.mark.parametrize("definite", [True, False])
def test_steps_in_a_shaped_region(radius, definite):
    """Inside the region the step is Newton's; otherwise its length in the metric is the radius, and it goes down."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    matrix = root @ root.T + np.eye(6) if definite else (root + root.T) / 2
    metric = np.diag(rng.uniform(0.5, 2, 6))
    g = rng.normal(size=6)
    found = truncated_newton(
        Dense(torch.from_numpy(matrix)), torch.from_numpy(g)[None], shaped(torch.from_numpy(np.linalg.inv(metric))),
        radius, 1e-12,
    )  # fmt: skip
    d = found.step[0].numpy()
    length = np.sqrt(d @ metric @ d)
    assert length <= radius * (1 + 1e-10)
    newton = -np.linalg.solve(matrix, g)
    if definite and np.sqrt(newton @ metric @ newton) < radius:
        np.testing.assert_allclose(d, newton, rtol=1e-6)
        assert not found.boundary
    else:
        assert found.boundary
        assert length == pytest.approx(radius)
    assert found.decrease == pytest.approx(-g @ d - d @ matrix @ d / 2)
    cauchy = radius / np.sqrt(g @ np.linalg.inv(metric) @ g)
    p = -np.linalg.solve(metric, g)
    bend = p @ matrix @ p
    t = cauchy if bend <= 0 else min(cauchy, -(g @ p) / bend)
    assert found.decrease >= -t * (g @ p) - t * t * bend / 2 - 1e-12, "no worse than the Cauchy point"


def test_headline_superlinear_and_one_evaluation_a_step():
    def fun(x):
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    result = precond.minimize(fun, torch.tensor([-1.2, 1.0] * 3).double(), method=trust_region_newton(), tol=1e-10)
    assert result.converged
    assert result.work.gradients <= 1.3 * result.iterations + 2
    assert result.history[-1] <= result.history[-2] ** 1.2
