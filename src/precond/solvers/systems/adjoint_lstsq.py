"""Gradients through the solution of a linear least-squares problem, by one solve of its normal equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from precond.core import BadInputError, Certificate, Operator, PrecondError, Progress, Status, Work
from precond.krylov import CG
from precond.operators import GramOperator
from precond.solvers.systems.adjoint import outer_on_pattern, real_as
from precond.solvers.systems.certify import Certified, estimated_frobenius_norm
from precond.solvers.systems.drive import drive
from precond.solvers.systems.held import Held
from precond.solvers.systems.setup import iteration_limit, prepare

NormalSolve = Callable[[Tensor], Tensor]


def check_shape_for_gradient(operator: Operator) -> None:
    """Refuse a matrix with more columns than rows, whose solutions are many."""
    if operator.shape[0] < operator.shape[1]:
        raise BadInputError(
            f"no gradient through a least-squares problem of shape {operator.shape}: give a matrix with at least as "
            "many rows as columns, or detach A and b"
        )


def with_least_squares_gradient(
    x: Tensor, A: Any, b: Tensor, operator: Operator, held: Held, rtol: float, atol: float
) -> Tensor:
    """Return ``x`` with the gradient of ``argmin ||b - A x||``, for ``A`` of full column rank.

    For an incoming gradient ``g``: ``A^H A y = g`` is solved by conjugate gradients with the preconditioner at hand.
    With ``w = A y`` and ``r = b - A x``, the gradient of ``b`` is ``w`` and that of ``A`` is ``r y^H - w x^H``, taken
    on the pattern of ``A`` where it is sparse.

    Args:
        x: The solution, shape ``[n]`` or ``[n, k]``.
        A: The matrix as it was given.
        b: The right-hand sides as they were given.
        operator: The matrix.
        held: The preconditioner of ``A^H A``, set up.
        rtol: Relative tolerance of the normal equations, or what rounding allows if that is more.
        atol: Absolute tolerance.

    Returns:
        The solution, attached to the graph of ``A`` and ``b``.

    Raises:
        PrecondError: The normal equations were not solved (in the backward pass).
    """
    matrix = A if isinstance(A, Tensor) else None

    def normal_solve(g: Tensor) -> Tensor:
        return solve_normal(operator, g, held, rtol=rtol, atol=atol)

    return _LeastSquares.apply(matrix, b, x, operator, normal_solve)


def solve_normal(operator: Operator, g: Tensor, held: Held, *, rtol: float, atol: float) -> Tensor:
    """Solve ``A^H A y = g`` until ``||g - A^H A y|| <= max(rtol ||g||, atol, 10 eps ||A||_F^2 ||y||)``.

    The last bound is the rounding error of the product itself; most of it lies where it does little to ``A y``.

    Args:
        operator: ``A``.
        g: Right-hand sides in rows, shape ``[batch, n]``.
        held: The preconditioner.
        rtol: Relative tolerance.
        atol: Absolute tolerance.

    Returns:
        ``y``, shape ``[batch, n]``.

    Raises:
        PrecondError: It was not solved.
    """
    size = torch.linalg.vector_norm(g, dim=-1)
    bounds = torch.clamp(rtol * size, min=atol)
    rounding = 10 * torch.finfo(g.dtype).eps * estimated_frobenius_norm(operator) ** 2
    gram = GramOperator(operator)
    prepared = prepare(held, gram, torch.zeros_like(g), Work())

    def claims(progress: Progress, residuals: list[float], slack: float) -> bool:
        return bool((progress.residual <= slack * bounds).all())

    def certify(y: Tensor) -> Certified:
        residual = torch.linalg.vector_norm(g - gram.matvec(y), dim=-1)
        allowed = torch.maximum(bounds, rounding * torch.linalg.vector_norm(y, dim=-1))
        excess = torch.where(residual == 0, 0, residual / allowed)
        worst = float(torch.nan_to_num(excess, nan=torch.inf).max())
        return Certificate("residual of the normal equations over its bound", worst, 1.0), Status.CONVERGED_RESIDUAL

    outcome = drive(
        CG(), gram, g, prepared.apply, torch.zeros_like(g),
        claims=claims, certify=certify, max_iterations=iteration_limit(operator.shape[1], None),
    )  # fmt: skip
    if not outcome.certificate.holds:
        raise PrecondError(
            "no gradient: the normal equations were not solved, their residual is "
            f"{outcome.certificate.value:.1e} times its bound; loosen rtol, or use preconditioner='sketch-qr'"
        )
    return outcome.x


class _LeastSquares(torch.autograd.Function):
    """The identity on ``x`` whose backward pass is that of the least-squares solution."""

    @staticmethod
    def forward(
        ctx: Any, A: Tensor | None, b: Tensor, x: Tensor, operator: Operator, normal_solve: NormalSolve
    ) -> Tensor:
        ctx.operator, ctx.normal_solve = operator, normal_solve
        found = x.clone()
        ctx.save_for_backward(A, b, found)
        return found

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        A, b, x = ctx.saved_tensors
        y = _NormalSolution.apply(A, g, ctx.operator, ctx.normal_solve)
        w = _Product.apply(A, y, ctx.operator, False)
        for_matrix = None
        if ctx.needs_input_grad[0]:
            r = b - _Product.apply(A, x, ctx.operator, False)
            for_matrix = outer_on_pattern(A, _beside(w, -r), _beside(x, y))
        return for_matrix, real_as(w, b.dtype) if ctx.needs_input_grad[1] else None, None, None, None


class _NormalSolution(torch.autograd.Function):
    """``y = (A^H A)^-1 g``, whose gradient for an incoming ``h`` is ``u = (A^H A)^-1 h`` and ``-Au y^H - Ay u^H``."""

    @staticmethod
    def forward(ctx: Any, A: Tensor | None, g: Tensor, operator: Operator, normal_solve: NormalSolve) -> Tensor:
        ctx.operator, ctx.normal_solve, ctx.dtype = operator, normal_solve, g.dtype
        y = _as_columns(normal_solve(_rows(g).to(operator.dtype)), g)
        ctx.save_for_backward(A, y)
        return y

    @staticmethod
    def backward(ctx: Any, h: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        A, y = ctx.saved_tensors
        u = _NormalSolution.apply(A, h, ctx.operator, ctx.normal_solve)
        for_matrix = None
        if ctx.needs_input_grad[0]:
            Au, Ay = (_Product.apply(A, v, ctx.operator, False) for v in (u, y))
            for_matrix = outer_on_pattern(A, _beside(Au, Ay), _beside(y, u))
        return for_matrix, real_as(u, ctx.dtype), None, None


class _Product(torch.autograd.Function):
    """``A v``, or ``A^H v`` where told so, of a matrix in any layout."""

    @staticmethod
    def forward(ctx: Any, A: Tensor | None, v: Tensor, operator: Operator, adjoint: bool) -> Tensor:
        ctx.operator, ctx.adjoint = operator, adjoint
        ctx.save_for_backward(A, v)
        rows = _rows(v).to(operator.dtype)
        return _as_columns(operator.rmatvec(rows) if adjoint else operator.matvec(rows), v)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        A, v = ctx.saved_tensors
        left, right = (v, g) if ctx.adjoint else (g, v)
        for_matrix = outer_on_pattern(A, -left, right) if ctx.needs_input_grad[0] else None
        back = _Product.apply(A, g, ctx.operator, not ctx.adjoint)
        return for_matrix, real_as(back, v.dtype), None, None


def _rows(v: Tensor) -> Tensor:
    return (v.unsqueeze(0) if v.ndim == 1 else v.mT).contiguous()


def _as_columns(rows: Tensor, like: Tensor) -> Tensor:
    return rows[0] if like.ndim == 1 else rows.mT


def _beside(one: Tensor, other: Tensor) -> Tensor:
    return torch.cat([v.unsqueeze(-1) if v.ndim == 1 else v for v in (one, other)], -1)
