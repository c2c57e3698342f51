"""The accelerated gradient method for SCAD and MCP against the paper's recurrence in plain NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import precond
from precond.core import Composite
from precond.losses import LeastSquares
from precond.penalties import MCP, SCAD
from precond.recipes.composite import accelerated_gradient, proximal_gradient
from tests.papers.sparse_toys import regression, scad, scad_rest_slope, soft


@pytest.mark.parametrize("damping", ["optimal", "polynomial"])
def test_matches_the_recurrence(damping: str) -> None:
    a, y, _ = regression()
    m, n = a.shape
    lam, steps = 0.2, 40
    lipschitz = max(np.linalg.eigvalsh(a.T @ a / m)[-1], 1 / 2.7)
    omega, alpha = 0.99 / lipschitz, 1.0
    x = aggregate = np.zeros(n)
    expected = []
    for k in range(1, steps + 1):
        if damping == "optimal":
            alpha = 1.0 if k == 1 else 2 / (1 + np.sqrt(1 + 4 / alpha**2))
            step = omega / alpha
        else:
            alpha, step = 2 / (k + 1), k * omega / 2
        middle = (1 - alpha) * aggregate + alpha * x
        g = a.T @ (a @ middle - y) / m + scad_rest_slope(middle, lam)
        x = soft(x - step * g, step * lam)
        aggregate = soft(middle - omega * g, omega * lam)
        expected.append(aggregate)
    problem = Composite(LeastSquares(a, y).objective(), SCAD(lam))
    running = accelerated_gradient(damping=damping).iterate(problem, torch.zeros(n, dtype=torch.float64), 0.0)
    for standing, reference in zip(itertools.islice(running, 1, None), expected, strict=False):
        np.testing.assert_allclose(standing.x.numpy(), reference, rtol=1e-8, atol=1e-10)


def test_the_objective_is_the_papers() -> None:
    a, y, _ = regression()
    x = np.random.default_rng(1).normal(size=a.shape[1])
    problem = Composite(LeastSquares(a, y).objective(), SCAD(0.3))
    expected = ((y - a @ x) ** 2).sum() / (2 * len(y)) + scad(x, 0.3)
    assert float(problem.value(torch.tensor(x))) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("penalty", [SCAD(0.3), MCP(0.3)])
def test_takes_fewer_gradients_than_the_proximal_gradient_method(penalty: SCAD | MCP) -> None:
    """The claim of the paper, at a correlation of 0.9: gradients until the objective is within 1e-6 of the best."""
    a, y, _ = regression(100, 200, rho=0.9)
    start = torch.zeros(a.shape[1], dtype=torch.float64)
    falls = {}
    for name, iteration in (("accelerated", accelerated_gradient()), ("plain", proximal_gradient())):
        problem = Composite(LeastSquares(a, y).objective(), penalty)
        running = itertools.islice(iteration.iterate(problem, start, 0.0), 700)
        falls[name] = np.array([float(problem.value(standing.x)) for standing in running])
    counts = {name: int(np.argmax(values <= values[-1] + 1e-6 * values[0])) for name, values in falls.items()}
    assert 10 < counts["accelerated"] < 0.7 * counts["plain"]


def test_any_torch_loss_and_restart() -> None:
    a, y, _ = regression()
    rows, signs = torch.tensor(a), torch.tensor(np.sign(y))

    def loss(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.softplus(-signs * (rows @ x)).mean() + 0.05 * x.square().sum()

    start = torch.zeros(a.shape[1], dtype=torch.float64)
    for restart in (False, True):
        result = precond.minimize(loss, start, penalty=MCP(0.05), method=accelerated_gradient(restart=restart))
        assert result.converged
        assert result.certificate.value <= 1e-6
