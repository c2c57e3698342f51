"""CG against the textbook loop, against the minimization it promises, and at its breakdowns."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from precond.core import Status
from precond.krylov import CG
from precond.operators import as_operator
from tests.papers.linear_toys import krylov_basis, poisson, steps, symmetric

rng = np.random.default_rng(1)


def textbook(a, b, p, count):
    x, r = np.zeros_like(b), b.copy()
    z = p @ r
    d = z.copy()
    iterates = [x.copy()]
    for _ in range(count):
        alpha = (r @ z) / (d @ (a @ d))
        x = x + alpha * d
        r_next = r - alpha * (a @ d)
        z_next = p @ r_next
        d = z_next + (r_next @ z_next) / (r @ z) * d
        r, z = r_next, z_next
        iterates.append(x.copy())
    return iterates


def test_follows_the_textbook_with_a_preconditioner():
    a, p = symmetric(np.geomspace(1, 1e3, 30)), symmetric(np.linspace(0.5, 3, 30), seed=1)
    b = rng.standard_normal(30)
    for (x, _), reference in zip(steps(CG(), a, b, p, 8), textbook(a, b, p, 8), strict=True):
        np.testing.assert_allclose(x, reference, rtol=1e-8, atol=1e-10)


def test_minimizes_the_energy_of_the_error_over_the_krylov_space():
    a, b = symmetric(np.geomspace(1, 100, 25)), rng.standard_normal(25)
    for k, (x, _) in enumerate(steps(CG(), a, b, None, 10)):
        if k:
            v = krylov_basis(a, b, k)
            best = v @ np.linalg.solve(v.T @ a @ v, v.T @ b)
            np.testing.assert_allclose(x, best, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("distinct", [1, 3, 6])
def test_takes_as_many_steps_as_there_are_distinct_eigenvalues(distinct):
    a = symmetric(np.tile(np.linspace(1, 7, distinct), 6))
    seen = steps(CG(), a, rng.standard_normal(6 * distinct), None, distinct)
    residuals = [float(progress.residual) for _, progress in seen]
    assert residuals[distinct] < 1e-12 * residuals[0]
    assert residuals[distinct - 1] > 1e-3 * residuals[0]


def test_its_residual_is_that_of_its_iterate_from_any_start():
    a = poisson(8)
    b, x0 = rng.standard_normal(64), rng.standard_normal(64)
    for x, progress in steps(CG(), a, b, None, 20, x0):
        assert float(progress.residual) == pytest.approx(np.linalg.norm(b - a @ x), rel=1e-9, abs=1e-12)


def test_rows_go_their_own_ways_and_stay_finite_after_convergence():
    a = symmetric(np.geomspace(1, 1e4, 40))
    b = np.stack([rng.standard_normal(40), np.linalg.eigh(a)[1][:, 0], np.zeros(40)])
    seen = steps(CG(), a, b, None, 300)
    assert all(np.isfinite(x).all() for x, _ in seen)
    np.testing.assert_allclose(seen[-1][0], np.linalg.solve(a, b.T).T, rtol=1e-8, atol=1e-12)
    for row in (0, 1):
        alone = steps(CG(), a, b[row], None, 10)
        for (x, _), (y, _) in zip(seen, alone, strict=False):
            np.testing.assert_allclose(x[row], y, rtol=1e-9, atol=1e-13)


def test_solves_hermitian_systems():
    g = rng.standard_normal((12, 12)) + 1j * rng.standard_normal((12, 12))
    a = g @ g.conj().T + np.eye(12)
    a = (a + a.conj().T) / 2
    b = rng.standard_normal(12) + 1j * rng.standard_normal(12)
    np.testing.assert_allclose(steps(CG(), a, b, None, 30)[-1][0], np.linalg.solve(a, b), rtol=1e-8)


def test_negative_curvature_at_once_returns_the_direction():
    operator, b = as_operator(np.diag([1.0, -1.0])), torch.tensor([[0.0, 2.0]], dtype=torch.float64)
    x0 = torch.tensor([[3.0, 0.0]], dtype=torch.float64)
    b = b + torch.tensor([[3.0, 0.0]], dtype=torch.float64)  # the residual at x0 is (0, 2)
    first, second = itertools.islice(CG().iterate(operator, b, torch.clone, x0), 2)
    assert first.failure is None
    assert second.failure is Status.FAILED_INDEFINITE_OPERATOR
    torch.testing.assert_close(second.solution() - x0, torch.tensor([[0.0, 2.0]], dtype=torch.float64))


def test_negative_curvature_later_returns_the_iterate_before():
    a = np.diag([4.0, 2.0, -0.1])
    b = np.array([1.0, 1.0, 0.2])
    seen = steps(CG(), a, b, None, 10)
    assert len(seen) > 2
    assert seen[-1][1].failure is Status.FAILED_INDEFINITE_OPERATOR
    np.testing.assert_array_equal(seen[-1][0], seen[-2][0])


@pytest.mark.parametrize("p", [-np.eye(3), np.diag([1.0, 1.0, -5.0]), np.zeros((3, 3))])
def test_reports_a_preconditioner_that_is_not_definite(p):
    seen = steps(CG(), np.diag([1.0, 2.0, 3.0]), np.ones(3), p, 10)
    assert seen[-1][1].failure is Status.FAILED_INDEFINITE_PRECONDITIONER
