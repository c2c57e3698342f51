"""IDR(s) against its definition: residuals in shrinking spaces, and the steps of the prototype in plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.core import BadInputError, Status
from precond.krylov import IDR, BiCGStab
from precond.krylov.idr import _shadow
from tests.papers.linear_toys import poisson, steps

rng = np.random.default_rng(55)


def reference(a, b, p, x, shadow, cycles):
    """IDR(s) as in the paper's prototype: differences of residuals, and s-by-s systems solved anew in every step."""
    s = len(shadow)
    r = b - a @ x
    seen = [x]
    g, u, omega = np.zeros((len(b), s), b.dtype), np.zeros((len(b), s), b.dtype), 1.0
    m = np.eye(s, dtype=b.dtype)
    for _ in range(cycles):
        for k in range(s):
            f = shadow.conj() @ r
            c = np.linalg.lstsq(m[k:, k:], f[k:], rcond=None)[0]
            v = p @ (r - g[:, k:] @ c)
            step = u[:, k:] @ c + omega * v
            image = a @ step
            if k:  # orthogonal to the first k shadow vectors, within the span of what this cycle has
                fix = np.linalg.solve(shadow[:k].conj() @ g[:, :k], shadow[:k].conj() @ image)
                step, image = step - u[:, :k] @ fix, image - g[:, :k] @ fix
            u[:, k], g[:, k] = step, image
            m = shadow.conj() @ g
            beta = f[k] / m[k, k]
            x, r = x + beta * step, r - beta * image
            seen.append(x)
        v = p @ r
        t = a @ v
        omega = np.vdot(t, r) / np.vdot(t, t)
        cosine = abs(np.vdot(t, r)) / np.linalg.norm(t) / np.linalg.norm(r)
        omega = omega * 0.7 / cosine if cosine < 0.7 else omega
        x, r = x + omega * v, r - omega * t
        seen.append(x)
        m = shadow.conj() @ g
    return seen


@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("s", [1, 3])
def test_follows_the_paper(kind, s):
    n = 25
    a = rng.standard_normal((n, n)) + 7 * np.eye(n) + (1j * rng.standard_normal((n, n)) if kind is complex else 0)
    p = np.eye(n) / 6 + 0.02 * rng.standard_normal((n, n)) + 0 * a
    b, x0 = rng.standard_normal(n) + 0 * a[0], rng.standard_normal(n) + 0 * a[0]
    shadow = _shadow(n, s, torch.from_numpy(b)[None]).numpy()
    expected = reference(a, b, p, x0, shadow, 3)
    for (x, progress), want in zip(steps(IDR(s), a, b, p, 3 * (s + 1), x0), expected, strict=True):
        np.testing.assert_allclose(x, want, rtol=1e-6, atol=1e-8)
        assert float(progress.residual) == pytest.approx(np.linalg.norm(b - a @ x), rel=1e-5)


def test_ends_within_n_plus_n_over_s_products():
    n = 20
    a, b = rng.standard_normal((n, n)) + 4 * np.eye(n), rng.standard_normal(n)
    norms = [float(progress.residual) for _, progress in steps(IDR(4), a, b, None, n + n // 4 + 1)]
    assert min(norms) < 1e-6 * norms[0]


def test_solves_convection_diffusion_and_rows_apart():
    import scipy.sparse

    m = 15
    wind = scipy.sparse.diags_array([-np.ones(m * m - 1), np.ones(m * m - 1)], offsets=[-1, 1])
    a = scipy.sparse.csr_array(poisson(m) + wind)
    b = rng.standard_normal((m * m, 2)) * [1, 1e6]
    result = precond.solve(a, b, method="idr", preconditioner="ilu0", rtol=1e-10)
    assert result.converged
    other = precond.solve(a, b, method=BiCGStab(), preconditioner="ilu0", rtol=1e-10)
    np.testing.assert_allclose(result.x, other.x, rtol=1e-6, atol=1e-6)


def test_a_breakdown_is_said_and_a_shadow_is_needed():
    _, progress = steps(IDR(1), np.zeros((3, 3)), np.ones(3), None, 9)[-1]
    assert progress.failure is Status.FAILED_BREAKDOWN
    with pytest.raises(BadInputError, match="shadow=0"):
        IDR(0)
