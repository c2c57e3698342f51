"""FISTA, the proximal gradient method, coordinate descent and the proximal Newton method against plain NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse
import torch

import precond
from precond.core import Composite
from precond.losses import LeastSquares, Logistic
from precond.penalties import L1, MCP, SCAD, GroupL1
from precond.recipes.block_descent import coordinate_descent
from precond.recipes.composite import fista, prox_newton, proximal_gradient
from tests.papers.sparse_toys import regression, soft

A, Y, W = regression()
M, N = A.shape
START = torch.zeros(N, dtype=torch.float64)
LAM = 0.2


def iterates(iteration, steps: int) -> list[np.ndarray]:
    problem = Composite(LeastSquares(A, Y).objective(), L1(LAM))
    return [s.x.numpy() for s in itertools.islice(iteration.iterate(problem, START, 0.0), 1, steps + 1)]


def test_fista_matches_the_recurrence() -> None:
    lipschitz = np.linalg.eigvalsh(A.T @ A / M)[-1]
    x, y, t, expected = np.zeros(N), np.zeros(N), 1.0, []
    for _ in range(40):
        new = soft(y - A.T @ (A @ y - Y) / M / lipschitz, LAM / lipschitz)
        if (y - new) @ (new - x) > 0:
            t = 1.0
        grown = (1 + np.sqrt(1 + 4 * t * t)) / 2
        x, y, t = new, new + (t - 1) / grown * (new - x), grown
        expected.append(new)
    np.testing.assert_allclose(iterates(fista(), 40), expected, rtol=1e-7, atol=1e-9)


def test_the_proximal_gradient_method_matches_the_recurrence() -> None:
    lipschitz = np.linalg.eigvalsh(A.T @ A / M)[-1]
    x, expected = np.zeros(N), []
    for _ in range(30):
        x = soft(x - A.T @ (A @ x - Y) / M / lipschitz, LAM / lipschitz)
        expected.append(x)
    np.testing.assert_allclose(iterates(proximal_gradient(), 30), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("logistic", [False, True])
def test_coordinate_descent_matches_plain_loops(sparse: bool, logistic: bool) -> None:
    signs = np.sign(Y)
    x, expected = np.zeros(N), []
    bound = (A**2).sum(0) / M * (0.25 if logistic else 1.0)
    for _ in range(6):
        for j in range(N):
            z = A @ x
            slope = -signs / (1 + np.exp(signs * z)) if logistic else z - Y
            x[j] = soft(np.array([x[j] - A[:, j] @ slope / M / bound[j]]), LAM / bound[j])[0]
        expected.append(x.copy())
    matrix = scipy.sparse.csr_array(A) if sparse else A
    loss = Logistic(matrix, signs) if logistic else LeastSquares(matrix, Y)
    running = coordinate_descent().iterate(Composite(loss.objective(), L1(LAM)), START, 0.0)
    found = [s.x.numpy() for s in itertools.islice(running, 1, 7)]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_a_proximal_newton_step_minimizes_its_model() -> None:
    """On least squares the model is exact: two working sets reach the solution, found here by long recurrences."""
    problem = Composite(LeastSquares(A, Y).objective(), L1(LAM))
    iteration = prox_newton(least=N)
    step = next(itertools.islice(iteration.iterate(problem, START, 1e-10), 2, 3))
    lipschitz, x = np.linalg.eigvalsh(A.T @ A / M)[-1], np.zeros(N)
    for _ in range(20_000):
        x = soft(x - A.T @ (A @ x - Y) / M / lipschitz, LAM / lipschitz)
    value = ((Y - A @ x) ** 2).sum() / (2 * M) + LAM * np.abs(x).sum()
    assert float(step.spot().total) <= value + 1e-9


@pytest.mark.parametrize("penalty", [L1(LAM), SCAD(LAM), MCP(LAM), GroupL1(LAM, 4)], ids=lambda p: type(p).__name__)
def test_newton_needs_few_gradients_and_finds_the_support(penalty) -> None:
    """The headline: a handful of gradients to 1e-9, where first-order methods take dozens to 1e-6."""
    loss = LeastSquares(A, Y)
    result = precond.minimize(loss, START, penalty=penalty, tol=1e-9)
    assert result.converged
    assert result.work.gradients <= 15
    found = result.x.numpy() != 0
    assert found[W != 0].all(), "a variable that matters was left out"
    first = precond.minimize(loss, START, penalty=penalty, method="fista", tol=1e-9)
    if penalty.concavity == 0:
        assert first.certificate.extra["objective"] == pytest.approx(result.certificate.extra["objective"], rel=1e-10)


def test_a_quadratic_functions_hessian_is_never_taken_twice() -> None:
    rows, y = torch.tensor(A), torch.tensor(Y)
    result = precond.minimize(lambda x: (rows @ x - y).square().sum() / (2 * M), START, penalty=SCAD(LAM), tol=1e-9)
    assert result.converged
    assert result.work.hvps <= N


def test_logistic_newton_agrees_with_fista() -> None:
    loss = Logistic(A, np.sign(Y))
    newton, first = (precond.minimize(loss, START, penalty=L1(0.05), method=m, tol=1e-9) for m in ("auto", "fista"))
    assert newton.converged
    assert first.converged
    np.testing.assert_allclose(newton.x.numpy(), first.x.numpy(), atol=1e-6)
