"""Hoelder-damped Levenberg-Marquardt (arXiv 1703.07461) against dense loops, and on Powell's singular function."""

import numpy as np
import pytest
import torch

import precond
from precond.recipes.least_squares import holder_lm, holder_region_lm

START = np.array([3.0, -1.0, 0.0, 1.0])


def powell(x):
    return torch.stack([x[0] + 10 * x[1], 5**0.5 * (x[2] - x[3]), (x[1] - 2 * x[2]) ** 2, 10**0.5 * (x[0] - x[3]) ** 2])


def residual(x):
    return powell(torch.from_numpy(x)).numpy()


def jacobian(x):
    return torch.autograd.functional.jacobian(powell, torch.from_numpy(x)).numpy()


def local(x, iterations, weights, eta):
    points = [x]
    for k in range(iterations):
        h, j = residual(x), jacobian(x)
        g = j.T @ h
        xi, omega = weights(k)
        mu = xi * np.linalg.norm(h) ** eta + omega * np.linalg.norm(g) ** eta
        x = x - np.linalg.lstsq(np.vstack([j, np.sqrt(mu) * np.eye(4)]), np.append(h, np.zeros(4)), rcond=None)[0]
        points.append(x)
    return np.array(points)


def region(x, iterations, eta=1.2, xi=0.95, theta=0.95):
    points, factor, level = [x], 1e-2, 0.5 * residual(x) @ residual(x)
    for _ in range(iterations):
        h, j = residual(x), jacobian(x)
        g, p = j.T @ h, 0
        while True:
            mu = max(1e-8, factor * (xi * np.linalg.norm(h) ** eta + (1 - xi) * np.linalg.norm(g) ** eta))
            matrix = j.T @ j + mu * np.eye(4)
            d = -np.linalg.solve(matrix, g)
            new = 0.5 * residual(x + d) @ residual(x + d)
            ratio = (level - new) / (0.5 * (d @ matrix @ d + mu * d @ d))
            if ratio >= 1e-4:
                break
            p += 1
            factor *= 2.0**p
        if ratio >= 0.9:
            factor = max(factor / 2, 1e-3)
        x, level = x + d, (1 - theta) * new + theta * level
        points.append(x)
    return np.array(points)


def adaptive(k):
    power = 0.95**k
    xi = 1.0 if k == 0 else 0.95 if power >= 1e-2 else max(power, 1e-10)
    return xi, 1 - xi


def run(method, iterations, seen="x", tol=0.0):
    found = []
    precond.least_squares(
        powell, torch.from_numpy(START.copy()), method=method, tol=tol, max_iterations=iterations,
        callback=lambda event: found.append(event.x.numpy().copy() if seen == "x" else (2 * event.loss) ** 0.5),
    )  # fmt: skip
    return np.array(found)


@pytest.mark.parametrize(
    ("method", "weights", "eta"),
    [
        (holder_lm(), adaptive, 1.2),
        (holder_lm(eta=2.0, xi=1.0), lambda k: (1.0, 0.0), 2.0),
        (holder_lm(eta=1.0, xi=0.0, omega=1.0), lambda k: (0.0, 1.0), 1.0),
    ],
)
def test_the_local_method_point_by_point(method, weights, eta):
    np.testing.assert_allclose(run(method, 12), local(START, 12, weights, eta), rtol=1e-8, atol=1e-10)


def test_the_global_method_point_by_point():
    np.testing.assert_allclose(run(holder_region_lm(), 12), region(START, 12), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("method", "most"),
    [
        (holder_lm(), 25), (holder_lm(eta=2.0, xi=1.0), 26), (holder_lm(eta=1.0, xi=1.0), 30),
        (holder_lm(eta=1.0, xi=0.0, omega=1.0), 28), (holder_region_lm(), 47),
    ],
)  # fmt: skip
def test_headline_a_singular_solution_is_reached(method, most):
    norms = run(method, 60, seen="norm", tol=1e-14)
    assert np.argmax(norms <= 1e-10) <= most
    assert norms.min() <= 1e-10


def test_networks_that_conserve_mass():
    """Steady states of reversible reactions with conserved totals, which are neither isolated nor regular."""
    rng = np.random.default_rng(0)
    solved = 0
    for _ in range(4):
        forward, reverse = (
            torch.from_numpy(rng.integers(0, 2, (8, 14)) * rng.integers(0, 2, (8, 14)).astype(float)) for _ in range(2)
        )
        change = reverse - forward
        there, rates = (torch.from_numpy(rng.normal(size=size) / 2) for size in (8, 14))
        rates = torch.cat([rates, rates - change.T @ there])  # forward and reverse fluxes agree at `there`
        _, _, rows = np.linalg.svd(change.numpy().T)
        left = torch.from_numpy(rows[np.linalg.matrix_rank(change.numpy()) :])
        total = left @ torch.exp(there)

        def steady(x, change=change, rates=rates, forward=forward, reverse=reverse, left=left, total=total):
            flux = torch.exp(rates + torch.cat([forward, reverse], 1).T @ x)
            return torch.cat([torch.cat([change, -change], 1) @ flux, left @ torch.exp(x) - total])

        result = precond.least_squares(steady, torch.zeros(8).double(), method="holder-region-lm", max_iterations=60)
        solved += (2 * result.certificate.extra["loss"]) ** 0.5 <= 1e-8
    assert solved == 4
