"""Jacobians of residuals in three forms, and how nearly their columns are orthogonal to the residual."""

from __future__ import annotations

import abc
import logging
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from precond.core import BadInputError

logger = logging.getLogger(__name__)

MEMORY = 2**28
"""Bytes that the directions of one chunk of a Jacobian by autograd may take."""

Stencil: TypeAlias = tuple[tuple[int, float], ...]
CENTRAL: Stencil = ((-2, 1.0), (-1, -8.0), (1, 8.0), (2, -1.0))
ONE_SIDED: Stencil = ((0, -25.0), (1, 48.0), (2, -36.0), (3, 16.0), (4, -3.0))
"""Multiples of the increment and weights, over 12, of differences of fourth order."""

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


class DifferenceJacobian(Jacobian):
    """By differences: forward while far from a solution, then of fourth order.

    Far means that some column of ``J`` still makes an angle with the residual whose cosine is above ``near``. Forward
    differences cost ``n`` residuals with increments ``sqrt(eps) |x_i|``, those of fourth order ``4 n`` with increments
    ``eps^(2/9) |x_i|``, where truncation and rounding leave about ten digits in well-scaled functions. Increments that
    rounding hides are enlarged, up to those of ``|x_i| = 1``.

    Args:
        near: The cosine from which on the fourth order is used; infinity means always.
        bounds: Least and largest variables, ``[n]`` each, that differences keep to: next to a bound they are one-sided,
            and zero where there is no room.
    """

    def __init__(self, near: float = 1e-5, bounds: tuple[Tensor, Tensor] | None = None) -> None:
        self._near, self._bounds = near, bounds
        self.finest = near == math.inf

    def at(self, residual: Residual, x: Tensor, r: Tensor) -> Tensor:
        """Return the Jacobian; once near, always of fourth order."""
        if not self.finest:
            jacobian = self._forward(residual, x, r)
            if not largest_cosine(jacobian, r) <= self._near:
                return jacobian
            self.finest = True
        return self._fourth(residual, x, r)

    @staticmethod
    def _columns(x: Tensor, r: Tensor, power: float, seen: float, column: Callable[[int, float], Tensor]) -> Tensor:
        """Return the columns ``column(i, h)`` with increments ``h = eps^power |x_i|``, those of one where ``x_i = 0``.

        Where ``|h J_i|`` is below ``eps^seen |r|`` the rounding of the residuals hides what the increment does, as next
        to zero; it grows until it shows, or to that of one.
        """
        eps, size, columns = torch.finfo(x.dtype).eps, float(r.norm()), []
        for i, value in enumerate(x):
            typical, growth = float(value.abs()) or 1.0, 100.0
            while True:
                h = float((value + eps**power * typical) - value)  # exactly representable
                found = column(i, h) if h else torch.zeros_like(r)
                if typical >= 1 or not float(found.norm()) * abs(h) <= eps**seen * size:
                    break
                typical, growth = min(typical * growth, 1.0), growth * growth
            columns.append(found)
        return torch.stack(columns, dim=1) if columns else r.new_zeros(r.numel(), 0)

    def _room(self, x: Tensor, i: int) -> tuple[float, float]:
        """Return how far a variable may move up, and how far down."""
        assert self._bounds is not None
        return float(self._bounds[1][i] - x[i]), float(x[i] - self._bounds[0][i])

    def _forward(self, residual: Residual, x: Tensor, r: Tensor) -> Tensor:
        def column(i: int, h: float) -> Tensor:
            if self._bounds is not None:
                ahead, behind = self._room(x, i)
                h = h if h <= ahead else -min(h, behind) if behind >= ahead else ahead
                if not h:
                    return torch.zeros_like(r)
            moved = x.clone()
            moved[i] += h
            return (residual(moved) - r) / h

        return self._columns(x, r, 1 / 2, 3 / 4, column)

    def _fourth(self, residual: Residual, x: Tensor, r: Tensor) -> Tensor:
        def column(i: int, h: float) -> Tensor:
            total, stencil = torch.zeros_like(r), CENTRAL
            if self._bounds is not None:
                ahead, behind = self._room(x, i)
                if not max(ahead, behind):
                    return total
                if min(ahead, behind) < 2 * h:
                    side = 1 if ahead >= behind else -1
                    h, stencil = side * min(h, max(ahead, behind) / 4), ONE_SIDED
            for multiple, weight in stencil:
                moved = x.clone()
                moved[i] += multiple * h
                total = total + weight * residual(moved)
            return total / (12 * h)

        return self._columns(x, r, 2 / 9, 4 / 9, column)


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
