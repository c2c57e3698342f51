"""GMRES against the minimization it promises, restarts, and breakdowns."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse.linalg

from precond.core import BadInputError, Status
from precond.krylov import GMRES
from tests.papers.linear_toys import krylov_basis, steps

rng = np.random.default_rng(3)


def system(n, kind=float):
    a = rng.standard_normal((n, n)) + 3 * np.eye(n)
    b = rng.standard_normal(n)
    return (a + 1j * rng.standard_normal((n, n)), b + 0j) if kind is complex else (a, b)


def cycle(a, b, p, x0, k):
    """Return the minimizer of the residual over ``x0 + P K_k(A P, r0)`` by dense least squares."""
    r = b - a @ x0
    v = p @ krylov_basis(a @ p, r, k)
    return x0 + v @ np.linalg.lstsq(a @ v, r, rcond=None)[0]


@pytest.mark.parametrize("kind", [float, complex])
def test_minimizes_the_true_residual_and_restarts(kind):
    a, b = system(20, kind)
    p = np.eye(20) + 0.2 * rng.standard_normal((20, 20)) + 0 * a
    x0 = rng.standard_normal(20) + 0 * b
    seen = steps(GMRES(restart=6), a, b, p, 14, x0)
    base = x0
    for k, (x, progress) in enumerate(seen):
        if k:
            within = (k - 1) % 6 + 1
            reference = cycle(a, b, p, base, within)
            np.testing.assert_allclose(x, reference, rtol=1e-7, atol=1e-9)
            if within == 6:
                base = reference
        assert float(progress.residual) == pytest.approx(np.linalg.norm(b - a @ x), rel=1e-9)


def test_follows_scipy_with_restarts():
    a, b = system(30)
    seen = steps(GMRES(restart=5), a, b, None, 20)
    theirs, _ = scipy.sparse.linalg.gmres(a, b, rtol=1e-300, restart=5, maxiter=4)
    np.testing.assert_allclose(seen[20][0], theirs, rtol=1e-8, atol=1e-10)


def test_is_exact_after_n_steps():
    a, b = system(15)
    x, progress = steps(GMRES(restart=50), a, b, None, 15)[-1]
    np.testing.assert_allclose(x, np.linalg.solve(a, b), rtol=1e-9)
    assert progress.solved


def test_a_cyclic_shift_shows_no_progress_before_step_n():
    a, b = np.roll(np.eye(8), 1, axis=0), np.eye(8)[0]
    short = steps(GMRES(restart=4), a, b, None, 40)
    assert len(short) == 41
    assert all(float(progress.residual) == pytest.approx(1.0) for _, progress in short)
    assert not any(progress.solved or progress.failure for _, progress in short)
    np.testing.assert_allclose(steps(GMRES(restart=8), a, b, None, 8)[-1][0], np.linalg.solve(a, b), atol=1e-12)


def test_lucky_breakdown_of_one_row_leaves_the_others_alone():
    a, b = system(12)
    vectors = np.stack([b, a @ a @ b, np.zeros(12)])
    matrix = np.block([[a, np.zeros((12, 2))], [np.zeros((2, 12)), np.diag([2.0, 5.0])]])
    rows = np.concatenate([vectors, np.zeros((3, 2))], axis=1)
    rows[1] = np.eye(14)[12]  # an eigenvector: exact after one step
    seen = steps(GMRES(restart=20), matrix, rows, None, 14)
    assert all(np.isfinite(x).all() for x, _ in seen)
    np.testing.assert_allclose(seen[1][0][1], rows[1] / 2, rtol=1e-12)
    np.testing.assert_allclose(seen[-1][0], np.linalg.solve(matrix, rows.T).T, rtol=1e-8, atol=1e-10)


def test_a_singular_inconsistent_system_breaks_down_at_the_least_residual():
    a, b = np.diag([1.0, 2.0, 0.0]), np.ones(3)
    x, progress = steps(GMRES(), a, b, None, 20)[-1]
    assert progress.failure is Status.FAILED_BREAKDOWN
    assert np.linalg.norm(b - a @ x) == pytest.approx(1.0)


def test_a_cycle_needs_a_step():
    with pytest.raises(BadInputError, match="restart=0"):
        GMRES(restart=0)
