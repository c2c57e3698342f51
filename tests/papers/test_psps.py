"""Preconditioned Polyak steps against the paper's equations in plain NumPy, and the problems that they solve."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch

from precond.core import BadInputError, Evidence
from precond.math.draws import signs
from precond.optim import Optimizer
from precond.preconditioners.hutchinson_diagonal import HutchinsonDiagonal
from precond.recipes.hutchinson import psps
from precond.steps.polyak import Polyak


def regression(seed, scale=0.0):
    """Return a consistent linear regression whose columns differ by powers of ``e``."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((12, 5)) * np.exp(rng.uniform(-scale, scale, 5))
    return a, a @ rng.standard_normal(5)


def run(a, b, method, steps, pieces=(2, 3)):
    """Train the unknowns, in two parameters, and return them with the losses."""
    parameters = [torch.nn.Parameter(torch.zeros(n, dtype=torch.float64)) for n in pieces]
    optimizer = Optimizer(parameters, method, lr=1.0)

    def closure():
        optimizer.zero_grad()
        loss = (torch.tensor(a) @ torch.cat(parameters) - torch.tensor(b)).square().mean() / 2
        loss.backward()
        return loss

    losses = [float(optimizer.step(closure)) for _ in range(steps)]
    return torch.cat(parameters).detach().numpy(), losses


def polyak_step(f, size, s, slack, weight):
    if slack == "none":
        return f / size, s
    if slack == "absolute":
        excess = max(0.0, f - s + weight) / (1 + size)
        return min(excess, f / size), max(0.0, s - weight + excess)
    q = 1 / (1 + weight)
    step = max(0.0, f - q * s) / (size + q)
    return step, q * (s + step)


@pytest.mark.parametrize("slack", ["none", "absolute", "square"])
def test_matches_the_equations_over_two_parameters(slack, monkeypatch):
    drawn = []

    def recorded(steps, like, stream=0):
        drawn.append(signs(steps, like, stream))
        return drawn[-1]

    monkeypatch.setattr("precond.optim.probe.signs", recorded)
    a, b = regression(0)
    found, losses = run(a, b, psps(beta=0.9, slack=slack, weight=0.2, lower=0.01), 12)
    w, d, s = np.zeros(5), np.zeros(5), 0.0
    probes = [torch.cat([z.flatten() for z in drawn[k : k + 2]]).numpy() for k in range(0, len(drawn), 2)]
    assert len(probes) == 12
    for t, z in enumerate(probes, start=1):
        residual = a @ w - b
        f, g = (residual**2).mean() / 2, a.T @ residual / len(b)
        assert losses[t - 1] == pytest.approx(f, rel=1e-6)
        d = 0.9 * d + 0.1 * z * (a.T @ (a @ z) / len(b))
        metric = np.maximum(np.abs(d / (1 - 0.9**t)), 0.1)
        step, s = polyak_step(f - 0.01, g @ (g / metric), s, slack, 0.2)
        w = w - step * g / metric
    np.testing.assert_allclose(found, w, rtol=1e-5)


@pytest.mark.parametrize(("f", "size", "s"), [(2.0, 3.0, 0.0), (0.5, 0.1, 0.4), (0.1, 2.0, 1.0), (1.0, 0.5, 0.02)])
@pytest.mark.parametrize("slack", ["absolute", "square"])
def test_a_step_solves_the_problem_that_defines_it(f, size, s, slack):
    """The point nearest to the last and the slack nearest to the last, where the linearized loss is within it."""
    weight, length = 0.3, np.sqrt(size)

    def objective(v):
        price = weight * v[1] if slack == "absolute" else weight * v[1] ** 2 / 2
        return v[0] ** 2 / 2 + (v[1] - s) ** 2 / 2 + price

    inside = [{"type": "ineq", "fun": lambda v: v[1] - (f - length * v[0])}]
    bounds = [(None, None), (0, None) if slack == "absolute" else (None, None)]
    best = scipy.optimize.minimize(objective, [1.0, 1.0], constraints=inside, bounds=bounds, method="SLSQP", tol=1e-14)
    rule = Polyak(slack, weight)
    state = rule.init(torch.zeros(1, 4, dtype=torch.float64))
    state.slack.fill_(s)
    evidence = Evidence(gradient=torch.ones(1, 4, dtype=torch.float64), loss=torch.tensor(f))
    step = rule.share(state, evidence, torch.tensor(size, dtype=torch.float64))
    assert float(step) * length == pytest.approx(best.x[0], abs=1e-6)
    assert float(state.slack) == pytest.approx(best.x[1], abs=1e-6)


def test_scales_of_the_columns_do_not_matter_with_the_diagonal_of_the_hessian():
    """Exact diagonals come of Hessians that are diagonal, whatever the signs: orthogonal columns."""
    q = np.linalg.qr(np.random.default_rng(3).standard_normal((12, 5)))[0]
    b = q @ np.arange(1.0, 6.0)
    scales = np.exp(np.linspace(-6, 6, 5))
    method = psps(slack="none", floor=1e-12)
    (plain, first), (scaled, second) = run(q, b, method, 6), run(q * scales, b, method, 6)
    np.testing.assert_allclose(second, first, rtol=1e-4, atol=1e-12)
    np.testing.assert_allclose(scaled * scales, plain, rtol=1e-4)
    assert first[-1] < 1e-2 * first[0]


def test_a_loss_at_its_bound_and_a_vanishing_gradient_take_no_step():
    rule = Polyak(lower=1.0)
    state = rule.init(torch.zeros(2, 3))
    evidence = Evidence(gradient=torch.zeros(2, 3), loss=torch.tensor(0.5))
    assert rule.share(state, evidence, torch.tensor(4.0)).tolist() == [0.0, 0.0]
    high = Evidence(gradient=torch.zeros(2, 3), loss=torch.tensor(5.0))
    assert rule.share(state, high, torch.tensor(1e-14)).tolist() == [0.0, 0.0]
    assert Polyak("none", largest=0.5).share(state, high, torch.tensor(1.0)).tolist() == [0.5, 0.5]


def test_averaged_signs_cancel_what_lies_beside_the_diagonal():
    rng = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 6, generator=rng, dtype=torch.float64)
    matrix = matrix @ matrix.T
    part = HutchinsonDiagonal(beta=0.9999, floor=1e-3)
    state = part.init(torch.zeros(1, 6, dtype=torch.float64))
    for _ in range(4000):
        z = torch.randint(0, 2, (1, 6), generator=rng).double() * 2 - 1
        part.observe(state, Evidence(probe=(z, z @ matrix)))
    found = 1 / part.apply(state, torch.ones(1, 6, dtype=torch.float64))
    torch.testing.assert_close(found[0], matrix.diagonal(), rtol=0.1, atol=0.0)


@pytest.mark.parametrize("settings", [{"slack": "some"}, {"weight": -1.0}, {"largest": 0.0}, {"lower": float("inf")}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(BadInputError):
        Polyak(**settings)
