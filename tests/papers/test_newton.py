"""Newton's method with absolute eigenvalues: against written-out steps, and away from a saddle point."""

import numpy as np
import torch
from torch.nn import functional

import precond
from precond.core import Evidence
from precond.operators.function import FunctionOperator
from precond.preconditioners.dense_cholesky import DenseCholesky
from precond.recipes.second_order import newton


def saddle(x):
    return (x[0] ** 2 - 1) ** 2 / 4 + (x[0] * x[1]) ** 2 / 2 + 2 * x[1] ** 2 + x[0] * x[1] / 10


def reference(x, steps):
    """Steps of the paper from numbers: eigenvalues by their absolute values, halving until sufficient decrease."""

    def f(x):
        return (x[0] ** 2 - 1) ** 2 / 4 + (x[0] * x[1]) ** 2 / 2 + 2 * x[1] ** 2 + x[0] * x[1] / 10

    points = [x]
    for _ in range(steps):
        a, b = x
        g = np.array([a * (a * a - 1) + a * b * b + b / 10, a * a * b + 4 * b + a / 10])
        h = np.array([[3 * a * a - 1 + b * b, 2 * a * b + 0.1], [2 * a * b + 0.1, a * a + 4]])
        unit = np.sqrt(np.abs(np.diag(h)))  # first to unit diagonal, so that scales of variables do not matter
        values, vectors = np.linalg.eigh(h / np.outer(unit, unit))
        d = -(vectors @ ((vectors.T @ (g / unit)) / np.abs(values))) / unit
        assert f(x + d) <= f(x) + 1e-4 * (g @ d)  # no step of this run is shortened
        x = x + d
        points.append(x)
    return np.array(points)


def test_steps_take_absolute_eigenvalues():
    got = []
    precond.minimize(
        saddle, torch.tensor([0.35, 0.3]).double(), method=newton(), tol=0.0, max_iterations=5,
        callback=lambda event: got.append(event.x.numpy()),
    )  # fmt: skip
    np.testing.assert_allclose(got, reference(np.array([0.35, 0.3]), 5), rtol=1e-6, atol=1e-9)


def test_headline_repelled_by_a_saddle_point_to_which_newton_is_drawn():
    x0 = torch.tensor([0.2, 0.1]).double()
    result = precond.minimize(saddle, x0, method="saddle-free-newton", tol=1e-10)
    assert result.converged
    assert result.certificate.extra["smallest curvature"] > 1
    x = x0.clone()
    for _ in range(20):
        g, h = torch.func.grad(saddle)(x), torch.func.hessian(saddle)(x)
        x = x - torch.linalg.solve(h, g)
    assert float(torch.linalg.eigvalsh(torch.func.hessian(saddle)(x))[0]) < 0


def test_small_regressions_are_solved_by_it():
    g = torch.Generator().manual_seed(0)
    a = torch.randn(200, 4, dtype=torch.float64, generator=g)
    b = torch.sign(torch.randn(200, dtype=torch.float64, generator=g))
    plain = precond.minimize(
        lambda w: functional.softplus(-b * (a @ w)).mean() + w @ w / 400, torch.zeros(4).double(), tol=1e-10
    )
    declared = precond.minimize(precond.losses.Logistic(a, b, ridge=1 / 200), torch.zeros(4).double(), tol=1e-10)
    for result in (plain, declared):
        assert result.converged
        assert result.method.startswith("newton (")
        assert result.work.hvps == 0
    torch.testing.assert_close(plain.x, declared.x)


def test_hessians_of_many_rows_are_not_rounded():
    """Data that other methods would square in single precision: one step is Newton's to ten digits."""
    g = torch.Generator().manual_seed(0)
    a = torch.randn(8000, 9, dtype=torch.float64, generator=g)
    b = torch.sign(torch.randn(8000, dtype=torch.float64, generator=g))
    loss = precond.losses.Logistic(a, b, ridge=1e-3)
    found = precond.minimize(loss, torch.zeros(9).double(), method="newton", tol=0.0, max_iterations=1).x
    wanted = torch.linalg.solve(a.T @ a / 4 / 8000 + 1e-3 * torch.eye(9).double(), a.T @ b / 2 / 8000)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_curvatures_far_apart_are_not_taken_for_noise():
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))).Q
    matrix = turn @ torch.diag(torch.logspace(0, -11, 6, dtype=torch.float64)) @ turn.mT
    ahead = torch.ones(6, dtype=torch.float64)
    start = torch.zeros(6, dtype=torch.float64)
    result = precond.minimize(lambda x: (x - ahead) @ matrix @ (x - ahead) / 2, start, method="newton", tol=1e-13)
    assert result.converged
    assert result.iterations <= 4


def test_curvatures_within_the_noise_of_differences_are():
    near = 1 - 1e-12
    matrix = torch.tensor([[1.0, near + 1e-9], [near - 1e-9, 1.0]], dtype=torch.float64)  # as differences leave it
    part = DenseCholesky(precise=True)
    state = part.init(torch.zeros(1, 2).double())
    v = torch.tensor([[1.0, -1.0]]).double()
    operator = FunctionOperator(lambda x: x @ matrix.mT, (2, 2), symmetric=True)
    part.observe(state, Evidence(gradient=v, previous=v, loss=v[0, 0], operator=operator))
    assert part.refresh(state).failures == 0
    assert float(part.apply(state, v).norm()) < 1e9
