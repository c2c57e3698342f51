"""LSQR against conjugate gradients on the normal equations and against dense least squares."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse.linalg

from precond.core import Status
from precond.krylov import LSQR
from tests.papers.linear_toys import steps, symmetric

rng = np.random.default_rng(4)


def normal_equations(a, b, p, x0, count):
    """Return the iterates of preconditioned CG on ``A^H A x = A^H b``, by the textbook loop."""
    x, r = x0.copy(), a.conj().T @ (b - a @ x0)
    z = p @ r
    d = z.copy()
    iterates = [x.copy()]
    for _ in range(count):
        q = a.conj().T @ (a @ d)
        alpha = np.vdot(r, z).real / np.vdot(d, q).real
        x = x + alpha * d
        r_next = r - alpha * q
        z_next = p @ r_next
        d = z_next + np.vdot(r_next, z_next).real / np.vdot(r, z).real * d
        r, z = r_next, z_next
        iterates.append(x.copy())
    return iterates


@pytest.mark.parametrize("shape", [(30, 12), (12, 12), (12, 30)])
@pytest.mark.parametrize("kind", [float, complex])
def test_equals_cg_on_the_normal_equations(shape, kind):
    a = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if kind is complex else 0)
    b = rng.standard_normal(shape[0]) + 0 * a[0, 0]
    x0 = rng.standard_normal(shape[1]) + 0 * a[0, 0]
    p = symmetric(np.linspace(0.5, 2, shape[1])) + 0 * a[0, 0]
    seen = steps(LSQR(), a, b, p, 7, x0)
    for (x, progress), reference in zip(seen, normal_equations(a, b, p, x0, 7), strict=True):
        np.testing.assert_allclose(x, reference, rtol=1e-7, atol=1e-9)
        r = b - a @ x
        assert float(progress.residual) == pytest.approx(np.linalg.norm(r), rel=1e-8)
        assert float(progress.normal) == pytest.approx(np.linalg.norm(a.conj().T @ r), rel=1e-7)


def test_follows_scipy():
    a, b = rng.standard_normal((40, 15)), rng.standard_normal(40)
    seen = steps(LSQR(), a, b, None, 8)
    for k in (1, 4, 8):
        theirs = scipy.sparse.linalg.lsqr(a, b, atol=0, btol=0, conlim=0, iter_lim=k)[0]
        np.testing.assert_allclose(seen[k][0], theirs, rtol=1e-9, atol=1e-12)


def test_finds_the_least_norm_solution_of_a_rank_deficient_problem():
    a = rng.standard_normal((20, 4)) @ rng.standard_normal((4, 10))
    b = rng.standard_normal(20)
    np.testing.assert_allclose(steps(LSQR(), a, b, None, 8)[-1][0], np.linalg.pinv(a) @ b, rtol=1e-8, atol=1e-10)


def test_rows_go_their_own_ways_and_stay_finite():
    a = rng.standard_normal((20, 6))
    b = np.stack([rng.standard_normal(20), np.zeros(20), a @ np.ones(6)])
    seen = steps(LSQR(), a, b, None, 60)
    assert all(np.isfinite(x).all() for x, _ in seen)
    np.testing.assert_allclose(seen[-1][0], np.linalg.lstsq(a, b.T, rcond=None)[0].T, rtol=1e-8, atol=1e-10)


def test_a_right_hand_side_orthogonal_to_the_range_is_solved_by_zero():
    a = np.concatenate([np.eye(3), np.zeros((2, 3))])
    seen = steps(LSQR(), a, np.array([0.0, 0.0, 0.0, 1.0, 2.0]), None, 5)
    assert all(not x.any() for x, _ in seen)
    assert float(seen[-1][1].normal) == 0


def test_reports_a_preconditioner_that_is_not_definite():
    a, b = rng.standard_normal((8, 3)), rng.standard_normal(8)
    assert steps(LSQR(), a, b, -np.eye(3), 5)[-1][1].failure is Status.FAILED_INDEFINITE_PRECONDITIONER
