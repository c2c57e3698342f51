"""MINRES against the minimization it promises, and where it must stop."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse.linalg

from precond.core import Status
from precond.krylov import MINRES
from tests.papers.linear_toys import krylov_basis, poisson, steps, symmetric

rng = np.random.default_rng(2)
indefinite = np.concatenate([-np.geomspace(0.5, 20, 12), np.geomspace(1, 50, 13)])


@pytest.mark.parametrize("preconditioned", [False, True])
def test_minimizes_the_residual_over_the_krylov_space(preconditioned):
    a, b = symmetric(indefinite), rng.standard_normal(25)
    p = symmetric(np.linspace(0.5, 3, 25), seed=5) if preconditioned else np.eye(25)
    root = np.linalg.cholesky(p).T  # ||r||_P = ||root r||
    for k, (x, progress) in enumerate(steps(MINRES(), a, b, p, 12)):
        if k:
            v = krylov_basis(p @ a, p @ b, k)
            best = v @ np.linalg.lstsq(root @ a @ v, root @ b, rcond=None)[0]
            np.testing.assert_allclose(x, best, rtol=1e-6, atol=1e-9)
        assert float(progress.residual) == pytest.approx(np.linalg.norm(b - a @ x), rel=1e-9)


def test_follows_scipy():
    a = poisson(7) - 1.3 * np.eye(49)
    b = rng.standard_normal(49)
    seen = steps(MINRES(), a, b, None, 25)
    for k in (1, 5, 25):
        theirs, _ = scipy.sparse.linalg.minres(a, b, rtol=1e-300, maxiter=k)
        np.testing.assert_allclose(seen[k][0], theirs, rtol=1e-6, atol=1e-8)


def test_solves_a_diagonal_with_both_signs_in_as_many_steps_as_eigenvalues():
    a, b = np.diag([1.0, -1.0, 2.0, -2.0, 1.0, -2.0]), np.ones(6)
    seen = steps(MINRES(), a, b, None, 4)
    np.testing.assert_allclose(seen[-1][0], b / np.diag(a), rtol=1e-12)
    residuals = [float(progress.residual) for _, progress in seen]
    assert residuals == sorted(residuals, reverse=True)


def test_an_exhausted_space_ends_without_nan():
    a, b = symmetric([1.0, 1.0, -2.0, 3.0]), rng.standard_normal((2, 4))
    b[1] = 0
    seen = steps(MINRES(), a, b, None, 50)
    assert all(np.isfinite(x).all() for x, _ in seen)
    np.testing.assert_allclose(seen[-1][0], np.linalg.solve(a, b.T).T, rtol=1e-10, atol=1e-12)


def test_a_singular_inconsistent_system_stops_at_the_least_residual():
    a, b = np.diag([1.0, 2.0, -3.0, 0.0]), np.ones(4)
    x, progress = steps(MINRES(), a, b, None, 50)[-1]
    assert progress.failure is Status.FAILED_BREAKDOWN
    assert np.linalg.norm(b - a @ x) == pytest.approx(1.0, rel=1e-10)


def test_solves_hermitian_systems():
    g = rng.standard_normal((10, 10)) + 1j * rng.standard_normal((10, 10))
    a = (g + g.conj().T) / 2
    b = rng.standard_normal(10) + 1j * rng.standard_normal(10)
    np.testing.assert_allclose(steps(MINRES(), a, b, None, 12)[-1][0], np.linalg.solve(a, b), rtol=1e-7)


def test_reports_a_preconditioner_that_is_not_definite():
    p = np.diag([1.0, 1.0, -1.0, -1.0])
    seen = steps(MINRES(), np.diag([1.0, 2.0, -3.0, 4.0]), np.array([1.0, 0.1, 2.0, 3.0]), p, 10)
    assert seen[-1][1].failure is Status.FAILED_INDEFINITE_PRECONDITIONER
