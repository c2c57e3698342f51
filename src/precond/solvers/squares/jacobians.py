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
from precond.math.machine.backward import pull, pull_many

logger = logging.getLogger(__name__)

MEMORY = 2**28
"""Bytes that the directions of one chunk of a Jacobian by autograd may take."""

ROWS = 8
"""Residuals up to which passes backward for all of them cost less than a graph of ``J' u``."""

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
    """By automatic differentiation, along all residuals or all variables at once, in chunks.

    Rows are passes backward through the graph of the residual; columns are passes backward through that of ``J' u``,
    which is linear in ``u``. Where there is no such graph (functions that are differentiable once), ``torch.func`` is
    asked, and where that has no rule either, the rows are had one by one.

    Args:
        function: The residual as a torch function, uncounted.
    """

    def __init__(self, function: Residual) -> None:
        self._function = function
        self._graph = self._batched = True
        self._compared = False

    def at(self, residual: Residual, x: Tensor, r: Tensor) -> Tensor:
        """Return the Jacobian."""
        m, n = r.numel(), x.numel()
        if n == 0 or m == 0:
            return r.new_zeros(m, n)
        if self._graph:
            try:
                found = self._through_graph(x, m)
            except RuntimeError as error:  # some operation is differentiable once, or has no rule for batches
                logger.info("the Jacobian is not had from a graph: %s", error)
                found = None
            if found is not None:
                return found
            self._graph = False
        if self._batched:
            try:
                if n <= m:
                    return self._columns(x, max(1, MEMORY // (8 * m)))
                by_rows: Any = torch.func.jacrev(self._function, chunk_size=max(1, MEMORY // (8 * n)))
                return torch.as_tensor(by_rows(x)).detach()
            except RuntimeError as error:  # some operations have no batching rule
                logger.info("the Jacobian is computed row by row: %s", error)
                self._batched = False
        return self._rows(x)

    def _through_graph(self, x: Tensor, m: int) -> Tensor | None:
        """Return the Jacobian by passes backward, many at once; ``None`` where a graph does not hold it."""
        leaf = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            r = self._function(leaf)
            if not r.requires_grad or r.shape != (m,):
                return None
            if m <= max(x.numel(), ROWS):
                return _pulled(r, leaf, m)
            u = torch.zeros_like(r, requires_grad=True)
            (pulled,) = torch.autograd.grad(r.dot(u), leaf, create_graph=True, allow_unused=True)
        if pulled is None or not pulled.requires_grad:
            return None
        found = _pulled(pulled, u, x.numel()).mT.contiguous()
        if not self._compared:  # a backward pass that torch cannot see through would be missing without a word
            w = torch.cos(torch.arange(m, dtype=x.dtype, device=x.device))
            one = pull(r, leaf, w)
            if one is None or not torch.allclose(found.mT @ w, one, rtol=1e-3, atol=1e-6 * float(found.abs().max())):
                return None
            self._compared = True
        return found

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


def _pulled(output: Tensor, leaf: Tensor, count: int) -> Tensor:
    """Return the Jacobian of ``output`` ``[count]`` with respect to ``leaf``, detached, in chunks of rows."""
    unit = torch.eye(count, dtype=output.dtype, device=output.device)
    chunks = torch.split(unit, max(1, MEMORY // (8 * max(1, leaf.numel()))))
    parts = [pull_many(output, leaf, chunk) for chunk in chunks]
    known = [
        leaf.new_zeros(len(v), leaf.numel()) if rows is None else rows for v, rows in zip(chunks, parts, strict=True)
    ]
    return torch.cat(known).detach() if len(known) > 1 else known[0].detach()


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
