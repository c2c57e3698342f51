"""Gradients through the solution of a linear system, by one solve with the adjoint matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd.forward_ad import unpack_dual

from precond.core import BadInputError, Iteration, Operator, PrecondError
from precond.solvers.systems.held import AdjointOperator, Held
from precond.solvers.systems.solve import solve_linear

Solves = Callable[[Tensor, bool], Tensor]
"""Solves with the matrix, or with its adjoint where told so."""


def wants_gradient(A: Any, b: Any) -> bool:
    """Whether a gradient is asked for, with respect to a matrix or right-hand sides given as tensors.

    Args:
        A: The matrix as it was given.
        b: The right-hand sides as they were given.

    Returns:
        Whether a graph is to be built.

    Raises:
        BadInputError: The matrix asks for a gradient, but the solution would be a NumPy array; or the tensors are
            those of a transform of ``torch.func``, which have no values to be read, or carry tangents.
    """
    tensors = [t for t in (A, b) if isinstance(t, Tensor)]
    if any(is_functorch_wrapped_tensor(t) or unpack_dual(t).tangent is not None for t in tensors):
        raise BadInputError(
            "no solution within torch.func's transforms or forward-mode derivatives: use torch.autograd.grad, or "
            "jacobian, hessian, vjp and hvp of torch.autograd.functional; instead of vmap give a batch of matrices, or "
            "columns of b"
        )
    asked = [isinstance(t, Tensor) and t.requires_grad and torch.is_grad_enabled() for t in (A, b)]
    if asked[0] and not isinstance(b, Tensor):
        raise BadInputError("A requires a gradient, but b is not a tensor: give torch.as_tensor(b), or A.detach()")
    return any(asked)


def with_gradient(
    x: Tensor, A: Any, b: Tensor, operator: Operator, iteration: Iteration, held: Held, rtol: float, atol: float
) -> Tensor:
    """Return ``x`` with the gradient of the solution of ``A x = b``.

    For an incoming gradient ``g``: ``A^H y = g`` is solved by the same iteration, to the same tolerance, with the
    adjoint of the preconditioner; then ``y`` is the gradient of ``b`` and ``-y x^H`` that of ``A``, taken on the
    pattern of ``A`` where it is sparse.

    Args:
        x: The solution, shape ``[n]`` or ``[n, k]``.
        A: The matrix as it was given.
        b: The right-hand sides as they were given.
        operator: The matrix.
        iteration: The method that solved it.
        held: Its preconditioner, set up.
        rtol: Relative tolerance.
        atol: Absolute tolerance.

    Returns:
        The solution, attached to the graph of ``A`` and ``b``.

    Raises:
        PrecondError: The adjoint solve did not converge (in the backward pass).
    """

    def solves(g: Tensor, adjoint: bool) -> Tensor:
        rows = (g.unsqueeze(0) if g.ndim == 1 else g.mT).contiguous().to(operator.dtype)
        if adjoint:
            transposed = operator if operator.traits.symmetric else AdjointOperator(operator)
            result = solve_linear(transposed, rows, iteration, held.adjoint, rtol=rtol, atol=atol)
        else:
            result = solve_linear(operator, rows, iteration, held, rtol=rtol, atol=atol)
        if not result.converged:
            raise PrecondError(f"no gradient: the adjoint system was not solved ({result.message})")
        return result.x[0] if g.ndim == 1 else result.x.mT

    matrix = A if isinstance(A, Tensor) else None
    return _Solution.apply(matrix, b, x, solves, False)


class _Solution(torch.autograd.Function):
    """The identity on ``x`` whose backward pass is that of the solution of ``A x = b``, or of ``A^H x = b``."""

    @staticmethod
    def forward(ctx: Any, A: Tensor | None, b: Tensor, x: Tensor, solves: Solves, adjoint: bool) -> Tensor:
        ctx.solves, ctx.adjoint, ctx.dtype = solves, adjoint, b.dtype
        found = x.clone()
        ctx.save_for_backward(A, found)
        return found

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        A, x = ctx.saved_tensors
        y = ctx.solves(g.detach(), not ctx.adjoint)
        if torch.is_grad_enabled():  # derivatives of the gradient are asked for
            y = _Solution.apply(A, g, y, ctx.solves, not ctx.adjoint)
        left, right = (x, y) if ctx.adjoint else (y, x)
        for_matrix = outer_on_pattern(A, left, right) if ctx.needs_input_grad[0] else None
        return for_matrix, real_as(y, ctx.dtype) if ctx.needs_input_grad[1] else None, None, None, None


def outer_on_pattern(A: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return ``-y x^H`` in the layout and on the pattern of ``A``."""
    y, x = (v.unsqueeze(-1) if v.ndim == 1 else v for v in (y, x))
    if A.layout == torch.strided:
        return real_as(-(y @ x.mH), A.dtype)
    if A.layout == torch.sparse_coo:
        A = A.detach().coalesce()  # each place once, as autograd sums over repeated ones
        row, column = A.indices()
    elif A.layout == torch.sparse_csr:
        column = A.col_indices()
        row = torch.repeat_interleave(torch.arange(A.shape[0], device=A.device), A.crow_indices().diff())
    else:
        raise BadInputError(f"no gradient with respect to a {A.layout} matrix: give it dense, or as COO or CSR")
    values = real_as(-(y[row] * x[column].conj()).sum(-1), A.dtype)
    if A.layout == torch.sparse_coo:
        return torch.sparse_coo_tensor(A.indices(), values, A.shape, is_coalesced=True)
    return torch.sparse_csr_tensor(A.crow_indices(), A.col_indices(), values, A.shape)


def real_as(g: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a gradient in the type of what it is the gradient of."""
    return (g.real if g.is_complex() and not dtype.is_complex else g).to(dtype)
