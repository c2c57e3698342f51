"""The pseudoinverse of a dense matrix, for systems that are singular."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.core import BadInputError, IncompatibleError, Status
from precond.operators import FunctionOperator
from precond.preconditioners.pseudo_inverse import PseudoInverse
from tests.papers.test_jacobi import ready

rng = np.random.default_rng(12)


def low_rank(n, rank, kind=np.float64):
    a = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, n))
    return (a + 1j * rng.standard_normal((n, rank)) @ rng.standard_normal((rank, n))) if kind is np.complex128 else a


@pytest.mark.parametrize("kind", [np.float64, np.complex128])
def test_is_the_pseudoinverse_of_the_matrix_with_unit_columns(kind):
    a = low_rank(9, 3, kind)
    part = PseudoInverse()
    state, health = ready(part, a)
    size = np.linalg.norm(a, axis=0)
    expected = np.linalg.pinv(a / size, rcond=1e-12) / size[:, None]
    v = rng.standard_normal((2, 9)).astype(kind)
    np.testing.assert_allclose(part.apply(state, torch.from_numpy(v)), v @ expected.T, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(
        part.apply_adjoint(state, torch.from_numpy(v)), v @ expected.conj(), rtol=1e-8, atol=1e-12
    )
    assert f"rank is {3 + 3 * (kind is np.complex128)} of 9" in health.detail


@pytest.mark.parametrize("as_operator", [False, True])
def test_solves_consistent_singular_systems_in_one_step(as_operator):
    a = low_rank(40, 20) * 10 ** rng.uniform(-6, 6, 40)
    given = FunctionOperator(lambda v: v @ torch.from_numpy(a).T, a.shape, symmetric=False) if as_operator else a
    result = precond.solve(given, a @ rng.standard_normal(40), method="gmres", preconditioner="pseudo-inverse")
    assert result.converged
    assert result.iterations <= 2


def test_says_that_an_inconsistent_system_has_no_solution_and_leaves_the_least_residual():
    a, b = low_rank(30, 10), rng.standard_normal(30)
    result = precond.solve(a, b)
    least = np.linalg.norm(b - a @ np.linalg.lstsq(a, b)[0])
    assert result.status is Status.FAILED_INCONSISTENT
    assert "lstsq" in result.message
    assert np.linalg.norm(b - a @ result.x) == pytest.approx(least, rel=1e-8)


def test_refuses_large_matrices():
    with pytest.raises(IncompatibleError, match="limit"):
        precond.solve(np.eye(5), np.ones(5), method="gmres", preconditioner=PseudoInverse(limit=4))
    with pytest.raises(BadInputError, match="cut"):
        PseudoInverse(cut=1.0)
