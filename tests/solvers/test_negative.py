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
    a = torch.from_numpy(-poisson(5).toarray()).to_sparse_csr().requires_grad_()
    b = torch.from_numpy(rng.standard_normal(25)).requires_grad_()
    result = precond.solve(a, b, rtol=1e-12)
    assert "of -A" in result.method
    ours = torch.autograd.grad(result.x.square().sum(), (a, b))
    dense = a.detach().to_dense().requires_grad_()
    theirs = torch.autograd.grad(torch.linalg.solve(dense, b).square().sum(), (dense, b))
    pattern = dense.detach() != 0
    torch.testing.assert_close(ours[0].to_dense(), theirs[0] * pattern, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-8, atol=1e-10)


def test_an_indefinite_matrix_with_a_negative_diagonal_falls_through_to_what_takes_indefinite_ones():
    a = rng.standard_normal((40, 40))
    a = a + a.T
    np.fill_diagonal(a, -0.1)
    result = precond.solve(scipy.sparse.csr_array(a), a @ np.ones(40))
    assert result.converged
    assert "(cg + ic0 of -A did not converge)" in result.method


@pytest.mark.parametrize("preconditioner", ["auto", "jacobi"])
def test_is_the_run_of_the_negative_one_way_or_the_other(preconditioner):
    """Compiled loops and products make the iterates that the positive definite matrix makes."""
    a, b = poisson(12), rng.standard_normal(144)
    positive = precond.solve(a, b, method="cg", preconditioner="ic0" if preconditioner == "auto" else preconditioner)
    negative = precond.solve(scipy.sparse.csr_array(-a), -b, preconditioner=preconditioner)
    assert negative.method.startswith("cg")
    assert negative.iterations == positive.iterations
    np.testing.assert_allclose(negative.history, positive.history, rtol=1e-9)
    assert (negative.work.matvecs, negative.work.applies) == (positive.work.matvecs, positive.work.applies)
