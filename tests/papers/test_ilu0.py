"""ILU(0) against loops over a dense matrix."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

import precond
from precond.core import BadInputError
from precond.preconditioners.ilu0 import ILU0
from tests.papers.linear_toys import poisson
from tests.papers.test_jacobi import ready

rng = np.random.default_rng(11)


def sparse(n, kind=float):
    a = rng.standard_normal((n, n)) * (rng.random((n, n)) < 0.35) + 4 * np.eye(n)
    return a + 1j * rng.standard_normal((n, n)) * (a != 0) if kind is complex else a


def dense_ilu0(a):
    """Gaussian elimination that ignores what falls on a zero of ``a`` (Saad, Iterative Methods, algorithm 10.4)."""
    f, pattern = a.copy(), a != 0
    n = len(a)
    for i in range(1, n):
        for k in range(i):
            if pattern[i, k]:
                f[i, k] /= f[k, k]
                for j in range(k + 1, n):
                    if pattern[i, j]:
                        f[i, j] -= f[i, k] * f[k, j]
    return np.tril(f, -1) + np.eye(n), np.triu(f)


@pytest.mark.parametrize("kind", [float, complex])
def test_is_elimination_on_the_pattern(kind):
    a = sparse(14, kind)
    scale = np.diag(1 / np.abs(a).max(axis=1))
    lower, upper = dense_ilu0(scale @ a)
    part = ILU0()
    state, health = ready(part, a)
    v = rng.standard_normal((2, 14)) + 0 * a[0]
    applied = part.apply(state, torch.from_numpy(v)).numpy()
    inverse = np.linalg.inv(lower @ upper) @ scale
    np.testing.assert_allclose(applied, v @ inverse.T, rtol=1e-10, atol=1e-12)
    adjoint = part.apply_adjoint(state, torch.from_numpy(v)).numpy()
    np.testing.assert_allclose(adjoint, v @ inverse.conj(), rtol=1e-10, atol=1e-12)
    assert health.detail == ""


def test_the_product_is_the_matrix_on_its_pattern():
    a = sparse(20)
    part = ILU0()
    state, _ = ready(part, a, batch=20)
    inverse = part.apply(state, torch.eye(20, dtype=torch.float64)).numpy().T
    remainder = np.linalg.inv(inverse) - a
    assert np.abs(remainder[a != 0]).max() < 1e-10
    assert np.abs(remainder[a == 0]).max() > 1e-3


def test_is_exact_without_fill_and_shifts_when_it_breaks_down():
    tridiagonal = np.diag([3.0] * 6) + np.diag([-1.0] * 5, 1) + np.diag([-2.0] * 5, -1)
    state, _ = ready(ILU0(), tridiagonal)
    b = rng.standard_normal((2, 6))
    np.testing.assert_allclose(
        ILU0().apply(state, torch.from_numpy(b)).numpy(), np.linalg.solve(tridiagonal, b.T).T, rtol=1e-12
    )
    state, health = ready(ILU0(), np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert "shifted" in health.detail
    assert torch.isfinite(ILU0().apply(state, torch.ones(2, 2, dtype=torch.float64))).all()
    with pytest.raises(BadInputError, match="first_shift"):
        ILU0(first_shift=0.0)


def test_cuts_the_iterations_on_convection_diffusion_several_times():
    m = 30
    wind = scipy.sparse.diags_array([-np.ones(m * m - 1), np.ones(m * m - 1)], offsets=[-1, 1]) * 0.6
    a = scipy.sparse.csr_array(poisson(m) + wind)
    b = np.ones(m * m)
    count = {p: precond.solve(a, b, method="gmres", preconditioner=p).iterations for p in ("identity", "ilu0")}
    assert count["ilu0"] * 2.5 < count["identity"]
