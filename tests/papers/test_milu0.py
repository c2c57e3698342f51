"""Relaxed and modified ILU(0) against loops over a dense matrix."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse
import torch

import precond
from precond.core import BadInputError
from precond.math.sparse.incomplete import scaled_rows
from precond.preconditioners.ilu0 import ILU0
from tests.papers.linear_toys import poisson
from tests.papers.test_jacobi import ready

rng = np.random.default_rng(12)


def dense_milu0(a, w):
    """Elimination on the pattern of ``a`` that adds ``w`` times what it drops to the pivot of the row."""
    f, pattern = a.copy(), a != 0
    for i in range(len(a)):
        dropped = 0
        for k in range(i):
            if pattern[i, k]:
                f[i, k] /= f[k, k]
                for j in range(k + 1, len(a)):
                    if pattern[i, j]:
                        f[i, j] -= f[i, k] * f[k, j]
                    else:
                        dropped -= f[i, k] * f[k, j]
        f[i, i] += w * dropped
    return np.tril(f, -1) + np.eye(len(a)), np.triu(f)


def winded(m, kind=float):
    n = m * m
    wind = np.diag(-0.7 * np.ones(n - 1), -1) + np.diag(0.3 * np.ones(n - 1), 1)
    a = poisson(m).toarray() + 0.4 * np.eye(n) + wind
    return a * (1 + 0.2j * np.sign(a)) if kind is complex else a


@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("w", [0.6, 1.0])
def test_is_elimination_that_compensates(kind, w):
    a = winded(4, kind)
    scale = np.diag(1 / np.abs(a).max(axis=1))
    lower, upper = dense_milu0(scale @ a, w)
    part = ILU0(compensation=w)
    state, health = ready(part, scipy.sparse.csr_array(a))
    v = rng.standard_normal((2, 16)) + 0 * a[0]
    inverse = np.linalg.inv(lower @ upper) @ scale
    np.testing.assert_allclose(part.apply(state, torch.from_numpy(v)).numpy(), v @ inverse.T, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        part.apply_adjoint(state, torch.from_numpy(v)).numpy(), v @ inverse.conj(), rtol=1e-10, atol=1e-12
    )
    assert health.detail == ""


def test_full_compensation_keeps_the_row_sums():
    a = winded(5)
    part = ILU0(compensation=1.0)
    state, _ = ready(part, a)
    sums = torch.from_numpy(a.sum(axis=1))[None]
    np.testing.assert_allclose(part.apply(state, sums).numpy(), 1.0, rtol=1e-10)


def test_rows_that_would_lose_their_pivot_are_left_alone():
    a = np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])  # row 1 drops -1, all of its pivot
    state, health = ready(ILU0(compensation=1.0), a)
    plain, _ = ready(ILU0(), a)
    v = torch.from_numpy(rng.standard_normal((1, 3)))
    np.testing.assert_allclose(ILU0().apply(state, v), ILU0().apply(plain, v), rtol=1e-14)
    assert health.failures == 0
    with pytest.raises(BadInputError, match="compensation"):
        ILU0(compensation=1.5)


def test_takes_matrices_in_any_order_with_entries_missing_or_twice():
    a = winded(4)
    a[3, 3] = 0.0
    rows, columns = np.nonzero(a)
    twice = scipy.sparse.csr_array(
        (
            np.r_[a[rows, columns] / 2, a[rows, columns] / 2][::-1],
            (np.r_[rows, rows][::-1], np.r_[columns, columns][::-1]),
        )
    )
    unsorted = scipy.sparse.csr_array(winded(4))
    for first, last in itertools.pairwise(unsorted.indptr):
        unsorted.indices[first:last], unsorted.data[first:last] = (
            unsorted.indices[first:last][::-1].copy(), unsorted.data[first:last][::-1].copy(),
        )  # fmt: skip
    assert scaled_rows(unsorted) is None
    assert scaled_rows(scipy.sparse.csr_array(a)) is None
    b = rng.standard_normal(16)
    for preconditioner in ("milu0", "ilu0"):
        result = precond.solve(twice, b, method="gmres", preconditioner=preconditioner)
        assert result.converged
        np.testing.assert_allclose(a @ result.x, b, atol=1e-6)


def test_halves_the_iterations_of_ilu0_on_convection_diffusion():
    m = 60
    wind = scipy.sparse.diags_array([-np.ones(m * m - 1), np.ones(m * m - 1)], offsets=[-1, 1]) * 0.2
    a, b = scipy.sparse.csr_array(poisson(m) + wind), rng.standard_normal(m * m)
    count = {p: precond.solve(a, b, method="bicgstab", preconditioner=p).iterations for p in ("milu0", "ilu0")}
    assert count["milu0"] * 1.6 < count["ilu0"]


def test_chooses_its_share_by_the_size_of_the_grid():
    a = winded(10)
    v = torch.from_numpy(rng.standard_normal((1, 100)))
    chosen, share = precond.recipes.incomplete.milu0(), 1 - 4 / 10
    np.testing.assert_array_equal(
        chosen.apply(ready(chosen, a)[0], v), ILU0().apply(ready(ILU0(compensation=share), a)[0], v)
    )
    assert precond.recipes.incomplete.milu0(0.9) == ILU0(compensation=0.9)
    with pytest.raises(BadInputError, match="'auto'"):
        precond.recipes.incomplete.milu0("most")
    tiny = ILU0(compensation=None)  # no share at all: 4 / sqrt(4) is more than one
    np.testing.assert_array_equal(
        tiny.apply(ready(tiny, winded(2))[0], v[:, :4]), ILU0().apply(ready(ILU0(), winded(2))[0], v[:, :4])
    )
