"""Small regressions take Newton's steps in arrays: the same steps as one by one, from the same derivatives."""

import numpy as np
import pytest
import torch

import precond
from precond.core import Work
from precond.math.dense.definite import definite_factor, solve_with_factor


def model(kind, rows=40, columns=3, seed=0, ridge=0.02, spread=1.0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(rows, columns)) * np.logspace(0, spread, columns)
    if kind == "logistic":
        return precond.losses.Logistic(a, rng.normal(size=rows) + a[:, 0] > 0, ridge=ridge)
    return precond.losses.Softmax(a, rng.integers(0, 4, size=rows), ridge=ridge)


KINDS = pytest.mark.parametrize("kind", ["logistic", "softmax"])


@KINDS
@pytest.mark.parametrize("size", [0.1, 30.0])
def test_arrays_have_the_derivatives_of_torch(kind, size):
    loss = model(kind)
    x = size * torch.randn(loss.variables, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    small = loss.small()
    value, gradient, bend = small.evaluate(x.numpy())
    plain, slope = loss.value_and_gradient(x)
    assert value == pytest.approx(float(plain), rel=1e-13)
    np.testing.assert_allclose(gradient, slope.numpy(), rtol=1e-11, atol=1e-13)
    by_autograd = torch.autograd.functional.hessian(loss, x).numpy()
    np.testing.assert_allclose(small.hessian(bend), by_autograd, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(loss.hessian(x, Work()).assembled().numpy(), by_autograd, rtol=1e-9, atol=1e-13)


@KINDS
@pytest.mark.parametrize("start", [0.0, 2.0, 20.0])
@pytest.mark.parametrize("ridge", [0.0, 0.02])
def test_steps_are_those_taken_one_by_one(kind, start, ridge):
    loss = model(kind, ridge=ridge, spread=2.0)
    x0 = torch.full((loss.variables,), start, dtype=torch.float64)
    x0[::2] *= -1
    together = precond.minimize(loss, x0, tol=1e-9, max_iterations=60)
    single = precond.minimize(loss, x0, tol=1e-9, max_iterations=60, callback=lambda event: False)
    assert together.status is single.status
    assert together.iterations == single.iterations
    assert together.work.counts() == {**single.work.counts(), "gradients": together.work.gradients}
    assert 0 <= together.work.gradients - single.work.gradients <= 1  # that of a step which a search shortens
    np.testing.assert_allclose(together.history, single.history, rtol=1e-5, atol=1e-9)
    assert len(together.history) == together.iterations + 1


def test_a_limit_on_steps_is_kept():
    result = precond.minimize(model("logistic"), np.zeros(3), tol=1e-12, max_iterations=2)
    assert (result.iterations, result.work.gradients, len(result.history)) == (2, 3, 3)
    assert result.status.name == "STOPPED_STEPS"


@pytest.mark.parametrize("batch", [1, 3])
def test_factors_and_solves(batch):
    a = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    matrix, v = a @ a.mT + torch.eye(6), torch.randn(batch, 6, dtype=torch.float64)
    factor = definite_factor(matrix)
    torch.testing.assert_close(factor @ factor.mT, matrix)
    torch.testing.assert_close(solve_with_factor(factor, v), torch.linalg.solve(matrix, v.mT).mT)
    assert definite_factor(matrix - 100 * torch.eye(6)) is None
    nearly = torch.ones(2, 2, dtype=torch.float64) + 1e-9 * torch.eye(2)
    assert definite_factor(nearly) is not None
    assert definite_factor(nearly, share=1e-6) is None
    assert definite_factor(matrix * torch.nan) is None
