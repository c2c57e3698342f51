"""Negative definite matrices are solved as their negatives, which says so, and others fall through."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

import precond
from tests.papers.linear_toys import poisson

rng = np.random.default_rng(8)


@pytest.mark.parametrize("kind", [np.float64, np.complex128, np.float32])
def test_a_negative_definite_matrix_is_solved_as_its_negative(kind):
    a = scipy.sparse.csr_array(-poisson(12).astype(kind))
    if kind is np.complex128:
        unitary = scipy.sparse.diags_array(np.exp(1j * np.arange(144)))
        a = scipy.sparse.csr_array(unitary @ a @ unitary.conj())
    b = rng.standard_normal((144, 2)).astype(kind)
    result = precond.solve(a, b, rtol=1e-5)
    assert result.converged
    assert "cg + ic0 of -A" in result.method
    assert (np.linalg.norm(b - a @ result.x, axis=0) <= 1.01e-5 * np.linalg.norm(b, axis=0)).all()
    sequence = precond.SolveSequence(rtol=1e-5)
    assert "of -A" in sequence.solve(a, b).method
    assert sequence.solve(a * 1.1, b).converged


def test_gradients_flow_through_the_negative():
    a = torch.from_numpy(-poisson(5).toarray()).requires_grad_()
    b = torch.from_numpy(rng.standard_normal(25)).requires_grad_()
    result = precond.solve(a, b, rtol=1e-12)
    assert "of -A" in result.method
    ours = torch.autograd.grad(result.x.square().sum(), (a, b))
    theirs = torch.autograd.grad(torch.linalg.solve(a, b).square().sum(), (a, b))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-10)


def test_an_indefinite_matrix_with_a_negative_diagonal_falls_through_to_minimum_residuals():
    a = rng.standard_normal((40, 40))
    a = a + a.T
    np.fill_diagonal(a, -0.1)
    result = precond.solve(a, a @ np.ones(40))
    assert result.converged
    assert "cg + ic0 of -A did not converge" in result.method or "minres" in result.method
