"""Jacobians of residuals, given or by autograd, and how nearly their columns are orthogonal to the residual."""

from __future__ import annotations

import abc
import logging
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from precond.core import BadInputError

logger = logging.getLogger(__name__)

MEMORY = 2**28
"""Bytes that the directions of one chunk of a Jacobian by autograd may take."""

Residual = Callable[[Tensor], Tensor]


class Jacobian(abc.ABC):
    """How the derivatives of a residual are had.

    Attributes:
        finest: The last one has all the digits that there are to be had.
    """

    finest: bool = True

    @abc.abstractmethod
    def at(self, residual: Residual, x: Tensor, r: Tensor) -> Tensor:
        """Return ``J`` at ``x``, shape ``[m, n]``.

        Args:
            residual: The residual, ``[n] -> [m]``; evaluations are counted.
            x: The point, ``[n]``.
            r: The residual there, ``[m]``.

        Returns:
            The Jacobian.
        """


class GivenJacobian(Jacobian):
    """The user's own function.

    Args:
        function: Maps a point ``[n]`` to ``[m, n]`` (a torch tensor of any dtype or device).
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function

    def at(self, residual: Residual, x: Tensor, r: Tensor) -> Tensor:
        """Return what the function returns, with its shape checked."""
        value = self._function(x.clone()).detach().to(r)
        if value.ndim != 2 or value.shape != (r.numel(), x.numel()):
            if value.numel() != r.numel() * x.numel() or value.ndim > 2:
                raise BadInputError(
                    f"jac returned shape {tuple(value.shape)}: it must be [{r.numel()}, {x.numel()}], "
                    "a row for each residual"
                )
            value = value.reshape(r.numel(), x.numel())
        return value


class AutogradJacobian(Jacobian):
    """By automatic differentiation, in chunks; forward where there are more residuals than variables.

    Where a function cannot be differentiated so (data-dependent branches, operations without a forward rule), the rows
    are had one by one by backward passes.

    Args:
        function: The residual as a torch function, uncounted.
    """

    def __init__(self, function: Residual) -> None:
        self._function = function
        self._batched = True

    def at(self, residual: Residual, x: Tensor, r: Tensor) -> Tensor:
        """Return the Jacobian."""
        m, n = r.numel(), x.numel()
        if self._batched:
            try:
                if n == 0:
                    return r.new_zeros(m, 0)
                if n <= m:
                    return self._columns(x, max(1, MEMORY // (8 * max(m, 1))))
                by_rows: Any = torch.func.jacrev(self._function, chunk_size=max(1, MEMORY // (8 * n)))
                return torch.as_tensor(by_rows(x)).detach()
            except RuntimeError as error:  # some operations have no batching rule
                logger.info("the Jacobian is computed row by row: %s", error)
                self._batched = False
        return self._rows(x)

    def _columns(self, x: Tensor, chunk: int) -> Tensor:
        def product(v: Tensor) -> Tensor:
            tangent: Tensor = torch.func.jvp(self._function, (x,), (v,))[1]
            return tangent

        unit = torch.eye(x.numel(), dtype=x.dtype, device=x.device)
        columns: Tensor = torch.func.vmap(product, chunk_size=chunk)(unit)
        return columns.detach().mT.contiguous()

    def _rows(self, x: Tensor) -> Tensor:
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            r = self._function(leaf)
            if not r.requires_grad:
                raise BadInputError(
                    "residual returned values that do not depend on x through torch operations: "
                    "compute them with torch, or pass x0 as a NumPy array"
                )
            rows = [torch.autograd.grad(entry, leaf, retain_graph=True, allow_unused=True)[0] for entry in r]
        return torch.stack([torch.zeros_like(x) if row is None else row for row in rows])


def vanishes(r: Tensor, jacobian: Tensor, x: Tensor, power: float = 0.75) -> bool:
    """Whether ``||r|| <= eps^power max_i |J_i| |x_i|``: a residual that rounding alone may have left."""
    moves = torch.linalg.vector_norm(jacobian, dim=0) * x.abs()
    scale = float(moves.max()) if moves.numel() else 0.0
    return float(r.double().norm()) <= torch.finfo(r.dtype).eps ** power * scale < math.inf


def cosines(jacobian: Tensor, r: Tensor) -> Tensor:
    """Return ``|J_i' r| / (|J_i| |r|)`` of each column, ``[n]``: free of every scale.

    Zero where a factor is zero, NaN where one is not finite.
    """
    lengths, norm = torch.linalg.vector_norm(jacobian, dim=0), torch.linalg.vector_norm(r)
    if not bool(torch.isfinite(norm) & torch.isfinite(lengths).all()):
        return torch.full_like(lengths, torch.nan)
    if not bool(norm > 0):
        return torch.zeros_like(lengths)
    unit = jacobian / torch.where(lengths > 0, lengths, 1.0)
    return ((r / norm) @ unit).abs()


def largest_cosine(jacobian: Tensor, r: Tensor) -> float:
    """Return the largest of the `cosines`; NaN where something is not finite."""
    if not bool(torch.isfinite(r).all()):
        return math.nan
    found = cosines(jacobian, r)
    return float(found.max()) if found.numel() else 0.0
