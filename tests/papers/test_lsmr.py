"""LSMR against the minimization it promises, and against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse.linalg

import precond
from precond.krylov import LSMR, LSQR
from tests.papers.linear_toys import krylov_basis, steps

rng = np.random.default_rng(15)


def problem(m, n, kind=float):
    a = rng.standard_normal((m, n)) @ np.diag(np.logspace(0, -1.5, n))
    b = rng.standard_normal(m)
    return (a + 1j * rng.standard_normal((m, n)) * 0.3, b + 1j) if kind is complex else (a, b)


@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_minimizes_the_residual_of_the_normal_equations(kind, preconditioned):
    a, b = problem(18, 9, kind)
    p = np.diag(1 / (np.abs(a) ** 2).sum(axis=0)) if preconditioned else np.eye(9)
    gram = a.conj().T @ a
    root = np.sqrt(p)
    start = a.conj().T @ b
    for k, (x, progress) in enumerate(steps(LSMR(), a, b, p + 0 * a[0, 0], 7)):
        assert float(progress.residual) == pytest.approx(np.linalg.norm(b - a @ x), rel=1e-9)
        assert float(progress.normal) == pytest.approx(np.linalg.norm(a.conj().T @ (b - a @ x)), rel=1e-7)
        if k:
            v = root @ krylov_basis(root @ gram @ root, root @ start, k)
            y = np.linalg.lstsq(root @ gram @ v, root @ start, rcond=None)[0]
            np.testing.assert_allclose(x, v @ y, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shape", [(20, 8), (8, 20), (12, 12)])
def test_follows_scipy(shape):
    a, b = problem(*shape)
    seen = steps(LSMR(), a, b, None, 6)
    theirs = scipy.sparse.linalg.lsmr(a, b, atol=0, btol=0, conlim=0, maxiter=6)
    np.testing.assert_allclose(seen[6][0], theirs[0], rtol=1e-7, atol=1e-9)
    assert float(seen[6][1].residual) == pytest.approx(theirs[3], rel=1e-7, abs=1e-9)
    assert float(seen[6][1].normal) == pytest.approx(theirs[4], rel=1e-6, abs=1e-9)


def test_the_normal_residual_never_grows_and_is_below_that_of_lsqr():
    a, b = problem(40, 30)
    ours, other = (
        [np.linalg.norm(a.T @ (b - a @ x)) for x, _ in steps(part, a, b, None, 15)] for part in (LSMR(), LSQR())
    )
    assert np.all(np.diff(ours) <= 1e-12 * np.array(ours[1:]))
    assert np.any(np.diff(other) > 0)
    assert all(mine <= theirs * (1 + 1e-9) for mine, theirs in zip(ours, other, strict=True))


@pytest.mark.parametrize("preconditioner", ["identity", "jacobi", "ssor", "ic0", "block-jacobi"])
def test_keeps_its_promise_in_lstsq(preconditioner):
    a, b = problem(40, 12)
    result = precond.lstsq(a, b, method="lsmr", preconditioner=preconditioner, rtol=1e-10)
    assert result.converged
    np.testing.assert_allclose(result.x, np.linalg.lstsq(a, b)[0], rtol=1e-6)
