"""Iterative sketching with momentum against the paper's loop in NumPy, its rate, and its forward stability."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.operators import as_operator
from precond.recipes.sketching import iterative_sketching
from tests.papers.sketch_toys import UNIT, backward_error, tall


def sketched_inverse(a, rows, seed=0):
    """Return ``(A'S'SA)^-1`` for a normal sketch, applied through its triangle, as vectors of rows."""
    s = np.random.default_rng(seed).standard_normal((rows, len(a))) / rows**0.5
    triangle = torch.from_numpy(np.linalg.qr(s @ a)[1])

    def apply(v):
        y = torch.linalg.solve_triangular(triangle.mT, v.mT, upper=False)
        return torch.linalg.solve_triangular(triangle, y, upper=True).mT

    return apply


def one_stage(a, b, inverse, momentum, x0):
    return iterative_sketching(momentum).iterate(
        as_operator(a), torch.from_numpy(b)[None], inverse, torch.from_numpy(x0)[None]
    )


@pytest.mark.parametrize("momentum", [0.0, 1 / 12, 1 / 4])
def test_follows_the_paper_step_by_step(momentum):
    a, b = tall(300, 6, 100.0, 0.5)
    p = sketched_inverse(a, 72)
    matrix = p(torch.eye(6, dtype=torch.float64)).numpy()
    x = before = np.full(6, 0.1)
    running = one_stage(a, b, p, momentum, x)
    assert float(next(running).residual) == pytest.approx(np.linalg.norm(b - a @ x))
    for _, progress in zip(range(10), running, strict=False):
        x, before = x + (1 - momentum) ** 2 * matrix @ a.T @ (b - a @ x) + momentum * (x - before), x
        np.testing.assert_allclose(progress.solution()[0], x, rtol=1e-8, atol=1e-11)
        assert float(progress.residual) == pytest.approx(np.linalg.norm(b - a @ x), rel=1e-8)


def test_momentum_reaches_the_rate_of_the_paper():
    """The error falls by ``(n / d)^1/2`` a step; with 12 rows a column it hardly falls without momentum."""
    a, b = tall(2000, 20, 1e3, 1.0)
    exact = np.linalg.lstsq(a, b, rcond=None)[0]
    p, start = sketched_inverse(a, 240), np.zeros(20)

    def error(momentum, steps):
        *_, (_, last) = zip(range(steps + 1), one_stage(a, b, p, momentum, start), strict=False)
        return np.linalg.norm(a @ (last.solution()[0].numpy() - exact)) / np.linalg.norm(a @ exact)

    assert error(1 / 12, int(1.4 * 10 / (0.5 * np.log10(12)))) <= 1e-10
    assert error(1 / 12, 15) < 1e-3 * error(0.0, 15)


@pytest.mark.parametrize(("condition", "residual"), [(1e4, 1.0), (1e8, 1e-3), (1e10, 1e-6)])
def test_one_stage_is_forward_stable_and_no_more(condition, residual):
    """The headline: errors as of a direct method, ``u cond (||x|| + cond ||r|| / ||A||)``; not the backward error."""
    a, b = tall(3000, 25, condition, residual)
    p = sketched_inverse(a, 300)
    s = np.random.default_rng(0).standard_normal((300, 3000))
    *_, last = one_stage(a, b, p, 1 / 12, np.linalg.lstsq(s @ a, s @ b, rcond=None)[0])
    x, (q, triangle) = last.solution()[0].numpy(), np.linalg.qr(a)
    exact = np.linalg.solve(triangle, q.T @ b)
    bound = UNIT * condition * (np.linalg.norm(exact) + condition * residual)
    assert np.linalg.norm(x - exact) < 10 * bound
    if condition >= 1e8:
        assert backward_error(a, b, x) > 10 * UNIT


def test_by_name_it_is_certified_and_repeated_where_one_stage_is_not_enough():
    a, b = tall(3000, 25, 1e10, 1e-3)
    result = precond.lstsq(a, b, method="iterative-sketching")
    assert result.converged, result.message
    assert "sketch-qr" in result.method
    assert backward_error(a, b, result.x) < 10 * UNIT
    single = precond.lstsq(a.astype(np.float32), b.astype(np.float32), method="iterative-sketching", rtol=1e-4)
    assert single.converged, single.message
