"""Gradients through the solution of a linear least-squares problem, by one solve of its normal equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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
        ctx.matrix, ctx.dtype = None if A is None else A.detach(), b.dtype
        ctx.save_for_backward(x, b.detach())
        return x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        x, b = ctx.saved_tensors
        operator = ctx.operator
        y = ctx.normal_solve(_rows(g).to(operator.dtype))
        w = operator.matvec(y)
        for_matrix = None
        if ctx.needs_input_grad[0]:
            r = _rows(b).to(operator.dtype) - operator.matvec(_rows(x).to(operator.dtype))
            left, right = torch.cat([w, -r]), torch.cat([_rows(x).to(operator.dtype), y])
            for_matrix = outer_on_pattern(ctx.matrix, left.mT, right.mT)
        return for_matrix, real_as(w[0] if g.ndim == 1 else w.mT, ctx.dtype), None, None, None


def _rows(v: Tensor) -> Tensor:
    return (v.unsqueeze(0) if v.ndim == 1 else v.mT).contiguous()
