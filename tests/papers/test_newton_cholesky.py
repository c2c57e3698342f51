"""Newton's method with factored Hessians: against exact steps, and its products against those of plain Newton-CG."""

import numpy as np
import pytest
import torch
from torch.nn import functional

import precond
from precond.core import Evidence
from precond.math.dense.definite import solve_with_factor
from precond.operators.dense import DenseOperator
from precond.preconditioners.dense_cholesky import DenseCholesky
from precond.recipes.second_order import newton_cholesky


def regression(rows=300, columns=12, seed=0, spread=3.0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(rows, columns)) * np.logspace(-spread / 2, spread / 2, columns)
    b = np.sign(rng.normal(size=rows) + a @ rng.normal(size=columns) / 3)
    return a, b


def logistic(a, b):
    features, labels = torch.from_numpy(a), torch.from_numpy(b)
    return lambda w: functional.softplus(-labels * (features @ w)).mean() + (w @ w) / (2 * len(b))


def newton(a, b, x, steps):
    """Plain Newton steps with the written-out Hessian, halved until sufficient decrease."""
    n = len(b)

    def f(w):
        return np.logaddexp(0, -b * (a @ w)).mean() + w @ w / (2 * n)

    points = [x]
    for _ in range(steps):
        s = 1 / (1 + np.exp(b * (a @ x)))
        g = -(a.T @ (b * s)) / n + x / n
        h = (a.T * (s * (1 - s))) @ a / n + np.eye(len(x)) / n
        d, t = -np.linalg.solve(h, g), 1.0
        while f(x + t * d) > f(x) + 1e-4 * t * (g @ d):
            t /= 2
        x = x + t * d
        points.append(x)
    return np.array(points)


def test_exact_solves_are_newton_steps():
    a, b = regression()
    want, got = newton(a, b, np.zeros(12), 6), []
    precond.minimize(
        logistic(a, b), torch.zeros(12).double(), method=newton_cholesky(cap=1e-13, free=0), tol=0.0, max_iterations=6,
        callback=lambda event: got.append(event.x.numpy()),
    )  # fmt: skip
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("fun", ["regression", "plain"])
def test_headline_products_are_saved(fun):
    a, b = regression(columns=40, spread=4.0)
    plain = logistic(a, b)
    # torch.einsum is not watched: the same function without a structure that can be seen
    features, labels = torch.from_numpy(a), torch.from_numpy(b)

    def hidden(w):
        return functional.softplus(-labels * torch.einsum("ij,j->i", features, w)).mean() + (w @ w) / (2 * len(b))

    x0 = torch.zeros(40).double()
    with_factor = precond.minimize(plain if fun == "regression" else hidden, x0, method="newton-cholesky", tol=1e-10)
    without = precond.minimize(plain, x0, method="newton-cg", tol=1e-10)
    assert with_factor.converged
    assert without.converged
    torch.testing.assert_close(with_factor.x, without.x, rtol=1e-6, atol=1e-8)
    share = 0.25 if fun == "regression" else 2.0  # products of a factor come in batches, which take less time
    assert with_factor.work.hvps < share * without.work.hvps


def test_indefinite_hessians_go_downhill():
    def fun(x):
        return (x**4).sum() - (x**2).sum() + x[0] * x[1]

    result = precond.minimize(fun, torch.tensor([0.1, 0.05, -0.01]).double(), method="newton-cholesky")
    assert result.converged
    assert result.certificate.extra["smallest curvature"] > 0


def test_pivots_that_are_rounding_are_not_divided_by():
    matrix = torch.tensor([[1.0, 1.0], [1.0, 1.0 + 1e-15]], dtype=torch.float64)
    part = DenseCholesky()
    state = part.init(torch.zeros(1, 2).double())
    v = torch.tensor([[1.0, -1.0]]).double()
    part.observe(state, Evidence(gradient=v, previous=v, loss=v[0, 0], operator=DenseOperator(matrix)))
    assert part.refresh(state).failures == 0
    assert float(part.apply(state, v).norm()) < 1e9


def test_curvatures_of_some_hundred_variables():
    """The certificate's extreme eigenvalues, had from a factor and few Lanczos steps."""
    a, b = regression(rows=500, columns=310, spread=1.0)
    result = precond.minimize(logistic(a, b), torch.zeros(310).double(), tol=1e-8)
    assert result.converged
    s = 1 / (1 + np.exp(a @ result.x.numpy()))
    values = np.linalg.eigvalsh((a.T * (s * (1 - s))) @ a / 500 + np.eye(310) / 500)
    assert result.certificate.extra["smallest curvature"] == pytest.approx(values[0], rel=0.05)
    assert result.certificate.extra["largest curvature"] == pytest.approx(values[-1], rel=0.05)


def test_solves_with_one_factor_and_with_several():
    g = torch.Generator().manual_seed(0)
    half = torch.randn(3, 5, 5, dtype=torch.float64, generator=g)
    matrices, v = half @ half.mT + torch.eye(5).double(), torch.randn(3, 5, dtype=torch.float64, generator=g)
    factors = torch.linalg.cholesky(matrices)
    torch.testing.assert_close(solve_with_factor(factors, v), torch.linalg.solve(matrices, v))
    torch.testing.assert_close(solve_with_factor(factors[0], v), torch.linalg.solve(matrices[0], v.mT).mT)
