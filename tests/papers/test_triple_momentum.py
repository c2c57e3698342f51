"""The triple momentum method against its three sequences in plain NumPy, and against its rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.core import BadInputError, Status
from precond.optim import Optimizer
from precond.recipes.triple_momentum import triple_momentum


def gradient(x):
    """Return the gradient of a function whose curvatures lie between 1 and 50, not a quadratic."""
    return x * np.array([1.0, 7.0, 20.0]) + 30 * np.tanh(x)


def reference(x, condition, largest, steps):
    """Return the points at which gradients are taken."""
    rho = 1 - 1 / np.sqrt(condition)
    alpha, beta = (1 + rho) / largest, rho**2 / (2 - rho)
    gamma = rho**2 / ((1 + rho) * (2 - rho))
    before, now, points = x, x, []
    for _ in range(steps):
        y = (1 + gamma) * now - gamma * before
        points.append(y)
        before, now = now, (1 + beta) * now - beta * before - alpha * gradient(y)
    return np.array(points)


@pytest.mark.parametrize("condition", [1.0, 4.0, 50.0, 1e4])
def test_takes_gradients_where_the_three_sequences_do(condition):
    start = np.array([1.0, -2.0, 0.3])
    weight = torch.nn.Parameter(torch.tensor(start))
    optimizer = Optimizer([weight], triple_momentum(condition=condition), lr=1 / 50)
    points = []
    for _ in range(40):
        points.append(weight.detach().numpy().copy())
        weight.grad = torch.tensor(gradient(points[-1]))
        optimizer.step()
    np.testing.assert_allclose(np.array(points), reference(start, condition, 50.0, 40), rtol=1e-9, atol=1e-12)


def test_errors_shrink_at_the_rate_of_the_paper():
    """On a quadratic of condition 100 the error falls by 0.9 a step, and the driver certifies the minimum."""
    curvatures = torch.logspace(0, 2, 30, dtype=torch.float64)
    result = precond.minimize(
        lambda x: (curvatures * x**2).sum() / 2, torch.ones(30).double(), method=triple_momentum(condition=100.0),
        lr=0.01, tol=1e-9,
    )  # fmt: skip
    assert result.status is Status.CONVERGED_GRADIENT
    steps = len(result.history) - 101
    assert (result.history[-1] / result.history[100]) ** (1 / steps) == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("condition", [0.5, -1.0, float("inf")])
def test_a_condition_number_is_at_least_one(condition):
    with pytest.raises(BadInputError, match="at least one"):
        triple_momentum(condition=condition)
