"""Gradients through a batch of solutions, by solving the adjoint systems the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from precond.core import PrecondError, Result

Again = Callable[[Tensor, Tensor], Result]


def with_batch_gradient(x: Tensor, matrices: Tensor, b: Tensor, again: Again) -> Tensor:
    """Return solutions with the gradient ``A_i^H y_i = g_i``: ``y_i`` for ``b_i``, ``-y_i x_i^H`` for ``A_i``.

    Args:
        x: Solutions in rows, shape ``[members, k, n]``.
        matrices: Shape ``[members, n, n]``, as the user's graph knows them.
        b: Right-hand sides in rows, as the user's graph knows them.
        again: Solves ``(matrices [members, n, n], b [members, n, k])``.

    Returns:
        The solutions, attached to the graph.
    """
    return _Solutions.apply(matrices, b, x, again)


class _Solutions(torch.autograd.Function):
    """The identity on solutions whose backward pass is that of a batch of systems."""

    @staticmethod
    def forward(ctx: Any, matrices: Tensor, b: Tensor, x: Tensor, again: Again) -> Tensor:
        ctx.again = again
        found = x.clone()
        ctx.save_for_backward(matrices, found)
        return found

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        matrices, x = ctx.saved_tensors
        result = ctx.again(matrices.detach().mH, g.detach().mT.contiguous())
        if not result.converged:
            raise PrecondError(f"no gradient: an adjoint system was not solved ({result.message})")
        y = result.x.mT
        if torch.is_grad_enabled():  # derivatives of the gradient are asked for
            y = _Solutions.apply(matrices.mH, g, y, ctx.again)
        return -(y.mT @ x.conj()), y, None, None
