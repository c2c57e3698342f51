"""BiCGStab against the algorithm of the paper, in plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

import precond
from precond.core import Status
from precond.krylov import BiCGStab
from tests.papers.linear_toys import poisson, steps

rng = np.random.default_rng(14)


def reference(a, b, p, x0, count):
    """The paper's algorithm with K = P^-1, as printed: rho, alpha, omega start at one, v and p at zero."""
    x, r = x0.copy(), b - a @ x0
    shadow, rho, alpha, omega = r.copy(), 1.0, 1.0, 1.0
    v = d = np.zeros_like(r)
    seen = [x]
    for _ in range(count):
        rho_next = np.vdot(shadow, r)
        beta = (rho_next / rho) * (alpha / omega)
        rho = rho_next
        d = r + beta * (d - omega * v)
        y = p @ d
        v = a @ y
        alpha = rho / np.vdot(shadow, v)
        s = r - alpha * v
        z = p @ s
        t = a @ z
        omega = np.vdot(t, s) / np.vdot(t, t)
        x = x + alpha * y + omega * z
        r = s - omega * t
        seen.append(x)
    return seen


@pytest.mark.parametrize("kind", [float, complex])
def test_follows_the_paper(kind):
    n = 20
    a = rng.standard_normal((n, n)) + 6 * np.eye(n) + (1j * rng.standard_normal((n, n)) if kind is complex else 0)
    p = np.eye(n) / 6 + 0.02 * rng.standard_normal((n, n)) + 0 * a
    b, x0 = rng.standard_normal(n) + 0 * a[0], rng.standard_normal(n) + 0 * a[0]
    expected = reference(a, b, p, x0, 8)
    for (x, progress), want in zip(steps(BiCGStab(), a, b, p, 8, x0), expected, strict=True):
        np.testing.assert_allclose(x, want, rtol=1e-8, atol=1e-10)
        assert float(progress.residual) == pytest.approx(np.linalg.norm(b - a @ x), rel=1e-6)


def test_solves_convection_diffusion_with_two_products_an_iteration():
    m = 25
    wind = scipy.sparse.diags_array([-np.ones(m * m - 1), np.ones(m * m - 1)], offsets=[-1, 1]) * 0.7
    a = scipy.sparse.csr_array(poisson(m) + wind)
    result = precond.solve(a, np.ones(m * m), method="bicgstab", preconditioner="ilu0", rtol=1e-10)
    assert result.converged
    assert 2 * result.iterations - 1 <= result.work.applies <= 2 * result.iterations  # it may end in the middle
    plain = precond.solve(a, np.ones(m * m), method="bicgstab", preconditioner="identity", rtol=1e-10)
    assert plain.converged
    assert 2 * result.iterations < plain.iterations


def test_a_row_that_is_done_stays_and_others_go_on():
    a = rng.standard_normal((10, 10)) + 6 * np.eye(10)
    rows = np.stack([np.zeros(10), rng.standard_normal(10)])
    seen = steps(BiCGStab(), a, rows, None, 25)
    np.testing.assert_array_equal(seen[-1][0][0], np.zeros(10))
    np.testing.assert_allclose(seen[-1][0][1], np.linalg.solve(a, rows[1]), rtol=1e-8)


def test_a_skew_matrix_breaks_down_and_says_so():
    a = np.array([[0.0, 1.0], [-1.0, 0.0]])
    result = precond.solve(a, np.array([1.0, 0.0]), method="bicgstab", preconditioner="identity")
    assert result.status is Status.FAILED_BREAKDOWN
    assert np.isfinite(result.x).all()
    assert not result.converged
