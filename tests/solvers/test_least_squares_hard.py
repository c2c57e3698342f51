"""`precond.least_squares` on modules, on large problems, and where a success would be false."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

import precond
from precond.core import IncompatibleError, Status
from precond.preconditioners.identity import Identity

D = torch.float64


def broyden(x):
    """Broyden's tridiagonal function, whose Jacobian has three diagonals."""
    zero = torch.zeros(1, dtype=x.dtype)
    return (3 - 2 * x) * x - torch.cat([zero, x[:-1]]) - 2 * torch.cat([x[1:], zero]) + 1


def broyden_jacobian(x):
    n = len(x)
    return scipy.sparse.diags_array(
        [np.full(n - 1, -1.0), 3 - 4 * np.asarray(x), np.full(n - 1, -2.0)], offsets=[-1, 0, 1], shape=(n, n)
    ).tocsr()


@pytest.mark.parametrize("n", [320, 4000])
def test_large_problems_work_by_products(n):
    result = precond.least_squares(broyden, -torch.ones(n, dtype=D))
    assert result.converged, result.message
    assert "krylov-lm" in result.method
    assert float(broyden(result.x).norm()) <= 1e-8
    assert result.work.matvecs > 0


@pytest.mark.parametrize("form", ["sparse", "operator"])
def test_sparse_jacobians_and_linear_operators(form):
    wrap = scipy.sparse.linalg.aslinearoperator if form == "operator" else lambda a: a
    for n in (20, 4000):
        result = precond.least_squares(
            lambda x: broyden(torch.from_numpy(x)).numpy(), -np.ones(n), jac=lambda x: wrap(broyden_jacobian(x))
        )
        assert result.converged, result.message
        assert np.linalg.norm(broyden(torch.from_numpy(result.x)).numpy()) <= 1e-8


def test_inner_systems_take_a_preconditioner():
    assert precond.least_squares(broyden, -torch.ones(30, dtype=D), preconditioner=Identity()).converged
    with pytest.raises(IncompatibleError, match="krylov-lm"):
        precond.least_squares(
            broyden, -torch.ones(30, dtype=D), method="levenberg-marquardt", preconditioner=Identity()
        )


def test_scales_of_variables_do_not_matter_to_products():
    scales = torch.logspace(-6, 6, 320, dtype=D)
    result = precond.least_squares(lambda y: broyden(y * scales), -1 / scales, method="auto")
    assert result.converged
    assert float(broyden(result.x * scales).norm()) <= 1e-7


def test_a_module_is_fitted_in_place():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1).double()
    x = torch.randn(20, 3, dtype=D)
    y = x @ torch.tensor([1.0, -2.0, 3.0], dtype=D) + 0.5
    result = precond.least_squares(lambda m: m(x)[:, 0] - y, model)
    assert result.converged
    assert result.x is model
    torch.testing.assert_close(model.weight.detach(), torch.tensor([[1.0, -2.0, 3.0]], dtype=D))


@pytest.mark.parametrize("method", ["lbfgs", "newton-cg", "gradient-normalized", "adaptive-cubic"])
def test_methods_of_minimize_run_with_the_gauss_newton_matrix(method):
    t = torch.linspace(0, 1, 20, dtype=D)
    residual = lambda b: b[0] * torch.exp(-b[1] * t) - 2 * torch.exp(-3 * t)  # noqa: E731
    result = precond.least_squares(residual, torch.ones(2, dtype=D), method=method, tol=1e-6)
    assert float(residual(result.x).norm()) < 1e-3


def test_a_saddle_point_is_no_fit():
    residual = lambda x: torch.stack([x[0] ** 2 - 1, x[1]])  # noqa: E731
    result = precond.least_squares(residual, torch.tensor([0.0, 1.0], dtype=D))
    assert result.converged
    assert abs(float(result.x[0])) == pytest.approx(1)


def test_a_minimum_where_a_column_vanishes_is_certified():
    residual = lambda x: torch.stack([x[0] ** 2 + 1, 10 * x[1]])  # noqa: E731
    result = precond.least_squares(residual, torch.tensor([2.0, 1.0], dtype=D))
    assert result.status is Status.CONVERGED_GRADIENT
    torch.testing.assert_close(result.x, torch.zeros(2, dtype=D), atol=1e-7, rtol=0)
    given = precond.least_squares(lambda x: residual(torch.from_numpy(x)).numpy(), np.array([2.0, 1.0]))
    assert given.converged


@pytest.mark.parametrize(
    "residual",
    [
        lambda x: torch.exp(-(x**2)) + 1.0,  # flat where it starts
        lambda x: 0 * x + 1.0,
        lambda x: torch.exp(-x) + 1.0,  # its infimum is at infinity
        lambda x: torch.atan(x) - 2.0,
    ],
)
def test_flat_residuals_are_no_success(residual):
    result = precond.least_squares(residual, torch.full((2,), 30.0, dtype=D), max_iterations=100)
    assert not result.converged, result.message


def test_problems_that_know_their_residuals():
    from precond.core import Budget, Metric
    from precond.problems.base import Smooth, SmoothInstance

    instance = SmoothInstance(
        lambda x: (x - 2).square().sum() / 2, torch.zeros(3, dtype=D), lambda x, loss, g: loss, lambda x: x - 2
    )
    problem = Smooth(
        name="toy", description="A toy.", metric=Metric("loss"), target=1e-8, horizon=Budget(steps=5),
        build=lambda seed, device: instance,
    )  # fmt: skip
    torch.testing.assert_close(precond.least_squares(problem).x, torch.full((3,), 2.0, dtype=D))
    torch.testing.assert_close(precond.minimize(problem).x, torch.full((3,), 2.0, dtype=D))
