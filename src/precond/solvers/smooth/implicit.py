"""Gradients through a minimizer, ``d x*(theta) / d theta``, by one solve with the Hessian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from precond.core import PrecondError, Preconditioner, Work
from precond.krylov.minres import MINRES
from precond.operators.hessian import autograd_hessian
from precond.preconditioners.dense_cholesky import DenseCholesky
from precond.preconditioners.identity import Identity
from precond.solvers.systems.solve import solve_linear

DIRECT = 1000
"""Variables up to which the Hessian is factored to precondition the solve, unless a preconditioner is given."""

Function = Callable[..., Tensor]


def with_gradient(
    x: Tensor,
    function: Function,
    arguments: tuple[Any, ...],
    preconditioner: Preconditioner[Any] | None = None,
    *,
    rtol: float = 1e-10,
) -> Tensor:
    """Return the minimizer ``x`` of ``function(x, *arguments)``, attached to the graph of the arguments.

    At a minimum ``f_x(x, theta) = 0``, so that ``dx = -f_xx^-1 f_x,theta dtheta``. For an incoming gradient ``g`` the
    backward pass solves ``f_xx y = g`` by MINRES and returns ``-(f_x' y)_theta``. It is as accurate as ``x``.

    Args:
        x: The minimizer, ``[n]``.
        function: Maps ``[n]`` and the arguments to a number, 0-d, by torch operations.
        arguments: What else the function takes; gradients flow to the tensors among them.
        preconditioner: Of the solve; symmetric, positive definite, and in need of products alone.
        rtol: Relative tolerance of the solve.

    Returns:
        The same vector.

    Raises:
        PrecondError: The solve did not converge (in the backward pass).
    """
    tensors = [a for a in arguments if isinstance(a, Tensor) and a.requires_grad]

    def adjoint(g: Tensor, saved: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
        fresh = iter([t.detach().requires_grad_() for t in saved])
        leaves: list[Tensor] = []
        full = []
        for a in arguments:
            if isinstance(a, Tensor) and a.requires_grad:
                leaves.append(next(fresh))
                full.append(leaves[-1])
            else:
                full.append(a)
        point = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(function(point, *full), point, create_graph=True)
        hessian = autograd_hessian(point, slope, Work())
        part = preconditioner
        if part is None:
            part = DenseCholesky() if point.numel() <= DIRECT else Identity()
        solved = solve_linear(hessian, g[None], MINRES(), part, rtol=rtol)
        if not solved.converged:
            raise PrecondError(f"no gradient of the minimizer: its Hessian could not be inverted ({solved.message})")
        return torch.autograd.grad(slope, leaves, -solved.x[0], allow_unused=True)

    attached: Tensor = _Minimizer.apply(x, adjoint, *tensors)
    return attached


class _Minimizer(torch.autograd.Function):
    """The identity on ``x`` whose backward pass is that of a minimizer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, adjoint: Any, *tensors: Tensor) -> Tensor:
        ctx.adjoint = adjoint
        ctx.save_for_backward(*tensors)
        return x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.adjoint(g, ctx.saved_tensors)
