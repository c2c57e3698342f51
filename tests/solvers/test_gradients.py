"""Gradients through ``precond.solve`` against finite differences and dense algebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.core import BadInputError, PrecondError
from precond.operators import FunctionOperator
from tests.papers.linear_toys import poisson

F64 = torch.float64
torch.manual_seed(0)
N = 6
SKEWED = torch.randn(N, N, dtype=F64) + 5 * torch.eye(N, dtype=F64)
SPD = SKEWED @ SKEWED.T
B = torch.randn(N, dtype=F64)
TIGHT = {"rtol": 1e-13}


def leaf(t):
    return t.detach().clone().requires_grad_()


@pytest.mark.parametrize("preconditioner", ["identity", "jacobi", "block-jacobi", "ssor", "ilu0", "ilut"])
@pytest.mark.parametrize("method", ["gmres", "fgmres", "bicgstab"])
def test_dense_matrices_pass_gradcheck(method, preconditioner):
    def x(a, b):
        return precond.solve(a, b, method=method, preconditioner=preconditioner, **TIGHT).x

    assert torch.autograd.gradcheck(x, (leaf(SKEWED), leaf(B)), atol=1e-5)


@pytest.mark.parametrize("dtype", [F64, torch.complex128])
@pytest.mark.parametrize("columns", [0, 2])
def test_automatic_choices_complex_numbers_and_several_columns(dtype, columns):
    a = SKEWED.to(dtype) + (0.5j * torch.randn(N, N, dtype=F64) if dtype.is_complex else 0)
    b = torch.randn(N, columns, dtype=dtype) if columns else B.to(dtype)
    assert torch.autograd.gradcheck(lambda a, b: precond.solve(a, b, **TIGHT).x, (leaf(a), leaf(b)), atol=1e-5)


@pytest.mark.parametrize("method", ["cg", "minres"])
@pytest.mark.parametrize("preconditioner", ["jacobi", "ic0", "ssor"])
def test_symmetric_methods_give_the_gradient_of_dense_algebra(method, preconditioner):
    a, b = leaf(SPD), leaf(B)
    x = precond.solve(a, b, method=method, preconditioner=preconditioner, rtol=1e-12).x
    weights = torch.arange(1.0, N + 1, dtype=F64)
    ours = torch.autograd.grad((weights * x).sum(), (a, b))
    theirs = torch.autograd.grad((weights * torch.linalg.solve(a, b)).sum(), (a, b))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("layout", ["coo", "csr", "duplicates"])
def test_the_values_of_sparse_matrices_get_gradients_on_their_pattern(layout):
    pattern = torch.from_numpy(poisson(3).toarray()) + 0.3 * torch.eye(9, dtype=F64).roll(1, 0)
    index = pattern.nonzero().T
    values, b = leaf(pattern[tuple(index)]), leaf(torch.randn(9, dtype=F64))
    if layout == "coo":
        a = torch.sparse_coo_tensor(index, values, (9, 9))
    elif layout == "csr":
        crow = torch.cat([torch.zeros(1, dtype=torch.int64), index[0].bincount(minlength=9).cumsum(0)])
        a = torch.sparse_csr_tensor(crow, index[1], values, (9, 9))
    else:
        a = torch.sparse_coo_tensor(torch.cat([index, index], 1), torch.cat([values, values]) / 2, (9, 9))
    x = precond.solve(a, b, **TIGHT).x
    ours = torch.autograd.grad((x**3).sum(), (values, b))
    dense = torch.zeros(9, 9, dtype=F64).index_put(tuple(index), values)
    theirs = torch.autograd.grad((torch.linalg.solve(dense, b) ** 3).sum(), (values, b))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-7, atol=1e-9)


def test_a_sparse_leaf_gets_a_gradient_of_its_layout():
    for a in (SKEWED.to_sparse_coo(), SKEWED.to_sparse_csr()):
        a = a.detach().requires_grad_()
        precond.solve(a, B, **TIGHT).x.sum().backward()
        assert a.grad.layout == a.layout


def test_the_adjoint_system_is_solved_with_the_adjoint_of_the_same_factors(monkeypatch):
    from precond.preconditioners.ilut import ILUT

    calls = []
    for name in ("refresh", "apply_adjoint"):
        own = getattr(ILUT, name)
        monkeypatch.setattr(ILUT, name, lambda *a, own=own, name=name, **k: (calls.append(name), own(*a, **k))[1])
    b = leaf(B)
    precond.solve(SKEWED, b, method="gmres", preconditioner="ilut").x.sum().backward()
    assert calls.count("refresh") == 1
    assert 1 <= calls.count("apply_adjoint") <= 3
    torch.testing.assert_close(b.grad, torch.linalg.solve(SKEWED.T, torch.ones(N, dtype=F64)), rtol=1e-6, atol=1e-8)


def test_products_alone_pass_gradients_to_the_right_hand_side():
    operator = FunctionOperator(lambda v: v @ SKEWED.T, (N, N), rmatvec=lambda v: v @ SKEWED)
    b = leaf(B)
    precond.solve(operator, b).x.sum().backward()
    torch.testing.assert_close(b.grad, torch.linalg.solve(SKEWED.T, torch.ones(N, dtype=F64)), rtol=1e-6, atol=1e-8)


def test_types_are_those_of_what_the_gradient_is_of():
    a, b = leaf(SPD), leaf(B.float())
    precond.solve(a, b).x.sum().backward()
    assert (a.grad.dtype, b.grad.dtype) == (F64, torch.float32)


def test_no_graph_where_none_is_asked_for():
    assert not precond.solve(SKEWED, B).x.requires_grad
    with torch.no_grad():
        assert not precond.solve(leaf(SKEWED), leaf(B)).x.requires_grad


def test_a_gradient_that_cannot_be_had_is_refused():
    with pytest.raises(BadInputError, match="detach"):
        precond.solve(leaf(SKEWED), np.ones(N))
    shift, b = torch.eye(20, dtype=F64).roll(1, 0), leaf(torch.zeros(20, dtype=F64))
    x = precond.solve(shift, b, method=precond.krylov.GMRES(restart=3), preconditioner="identity").x
    with pytest.raises(PrecondError, match="adjoint system was not solved"):
        x.sum().sub(x[0] * 3).backward()


@pytest.mark.parametrize("form", ["dense", "complex", "columns", "coo", "batch"])
def test_gradients_have_gradients(form):
    generator = torch.Generator().manual_seed(5)
    dtype = torch.complex128 if form == "complex" else torch.float64
    shape = (2, 4) if form == "batch" else (4, 2) if form == "columns" else (4,)
    a = torch.randn((2, 4, 4) if form == "batch" else (4, 4), generator=generator, dtype=dtype)
    a = (a + 5 * torch.eye(4, dtype=dtype)).requires_grad_()
    b = torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()

    def solution(a, b):
        given = a
        if form == "coo":
            places = torch.ones(4, 4).nonzero().T
            given = torch.sparse_coo_tensor(places, a.flatten(), (4, 4))
        return precond.solve(given, b, rtol=1e-13).x

    assert torch.autograd.gradgradcheck(solution, (a, b), atol=1e-5)


@pytest.mark.parametrize("solver", [precond.solve, precond.lstsq])
def test_transforms_that_hide_values_are_refused_with_what_to_use_instead(solver):
    matrix, b = torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    for call in (
        lambda: torch.func.grad(lambda v: solver(matrix, v).x.sum())(b),
        lambda: torch.func.jvp(lambda v: solver(matrix, v).x, (b,), (b,)),
        lambda: torch.func.vmap(lambda v: solver(matrix, v).x)(torch.eye(3, dtype=torch.float64)),
    ):
        with pytest.raises(precond.core.BadInputError, match=r"torch\.autograd"):
            call()


@pytest.mark.parametrize("batch", [(), (2,)])
def test_tangents_are_not_lost_silently(batch):
    matrix, b = torch.eye(3).expand(*batch, 3, 3), torch.ones(*batch, 3)
    with torch.autograd.forward_ad.dual_level(), pytest.raises(precond.core.BadInputError, match="forward-mode"):
        precond.solve(matrix, torch.autograd.forward_ad.make_dual(b, b))
