"""Gradients through ``precond.lstsq`` against finite differences and dense algebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.core import BadInputError
from precond.operators import FunctionOperator
from tests.papers.sketch_toys import tall

F64 = torch.float64
torch.manual_seed(0)
A, B = torch.randn(9, 4, dtype=F64), torch.randn(9, dtype=F64)


def leaf(t):
    return t.detach().clone().requires_grad_()


@pytest.mark.parametrize("method", ["auto", "spir", "fossils", "sketch-precondition", "lsqr", "lsmr"])
def test_passes_gradcheck(method):
    assert torch.autograd.gradcheck(
        lambda a, b: precond.lstsq(a, b, method=method, rtol=1e-13).x, (leaf(A), leaf(B)), atol=1e-5
    )


@pytest.mark.parametrize("dtype", [F64, torch.complex128])
@pytest.mark.parametrize("columns", [0, 2])
def test_complex_numbers_and_several_columns(dtype, columns):
    a = A.to(dtype) + (0.5j * torch.randn(9, 4, dtype=F64) if dtype.is_complex else 0)
    b = torch.randn(9, columns, dtype=dtype) if columns else B.to(dtype)
    assert torch.autograd.gradcheck(lambda a, b: precond.lstsq(a, b, rtol=1e-13).x, (leaf(a), leaf(b)), atol=1e-5)


@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_sparse_matrices_get_gradients_on_their_pattern(layout):
    pattern = A * (A.abs() > 0.4)
    index = pattern.nonzero().T
    values, b = leaf(pattern[tuple(index)]), leaf(B)

    def x(values, b):
        a = torch.sparse_coo_tensor(index, values, (9, 4))
        return precond.lstsq(a.to_sparse_csr() if layout == "csr" else a, b, rtol=1e-13).x

    assert torch.autograd.gradcheck(x, (values, b), atol=1e-5)


def test_an_ill_conditioned_problem_gives_the_gradient_of_dense_algebra():
    a, b = (torch.from_numpy(t) for t in tall(600, 10, 1e6, 1e-2))
    weights = torch.arange(1.0, 11, dtype=F64)
    a, b = leaf(a), leaf(b)
    ours = torch.autograd.grad((weights * precond.lstsq(a, b).x).sum(), (a, b))
    q, r = torch.linalg.qr(a)
    x = torch.linalg.solve_triangular(r, (q.T @ b)[:, None], upper=True)[:, 0]
    theirs = torch.autograd.grad((weights * x).sum(), (a, b))
    for mine, other in zip(ours, theirs, strict=True):
        assert float((mine - other).norm() / other.norm()) < 1e-5


def test_products_alone_give_the_gradient_of_the_right_hand_side():
    operator, b = FunctionOperator(lambda x: x @ A.T, (9, 4), rmatvec=lambda y: y @ A), leaf(B)
    assert torch.autograd.gradcheck(lambda b: precond.lstsq(operator, b, rtol=1e-13).x, (b,), atol=1e-5)


def test_what_cannot_be_done_is_refused():
    with pytest.raises(BadInputError, match="at least as many rows"):
        precond.lstsq(leaf(A.T), B[:4])
    with pytest.raises(BadInputError, match="not a tensor"):
        precond.lstsq(leaf(A), np.ones(9))


@pytest.mark.parametrize("dtype", [F64, torch.complex128])
@pytest.mark.parametrize("columns", [0, 2])
def test_second_derivatives(dtype, columns):
    torch.manual_seed(1)
    a = torch.randn(6, 3, dtype=dtype)
    b = torch.randn(6, columns, dtype=dtype) if columns else torch.randn(6, dtype=dtype)
    assert torch.autograd.gradgradcheck(lambda a, b: precond.lstsq(a, b, rtol=1e-13).x, (leaf(a), leaf(b)))


def test_a_hessian_is_that_of_dense_algebra():
    b = leaf(B)
    ours = torch.autograd.functional.hessian(lambda a: precond.lstsq(a, b, rtol=1e-13).x.pow(3).sum(), A)
    theirs = torch.autograd.functional.hessian(lambda a: (torch.linalg.pinv(a) @ b).pow(3).sum(), A)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_second_derivatives_of_sparse_matrices(layout):
    pattern = A * (A.abs() > 0.4)
    index = pattern.nonzero().T

    def loss(values, solver):
        a = torch.sparse_coo_tensor(index, values, (9, 4))
        if solver is None:
            return (torch.linalg.pinv(a.to_dense()) @ B).pow(3).sum()
        return solver(a.to_sparse_csr() if layout == "csr" else a, B, rtol=1e-13).x.pow(3).sum()

    values = pattern[tuple(index)]
    ours = torch.autograd.functional.hessian(lambda v: loss(v, precond.lstsq), values)
    theirs = torch.autograd.functional.hessian(lambda v: loss(v, None), values)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)
