"""Sums of squares whose Jacobian is known by products alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from precond.core import BadInputError, Objective, Operator, OperatorTraits, Work
from precond.math.machine.backward import pull
from precond.operators.compressed import Compressor

PROBES = 10
"""Random vectors that estimate the norms of columns."""

Residual = Callable[[Tensor], Tensor]
Map = Callable[[Tensor], Tensor]


class JacobianProducts(Operator):
    """``J`` at a point, by products that are counted.

    Args:
        forward: Maps ``[n]`` to ``J v``, ``[m]``.
        adjoint: Maps ``[m]`` to ``J' u``, ``[n]``.
        shape: ``(m, n)``.
        like: A tensor that tells dtype and device.
        work: The account to charge.
        matrix: The sparse matrix itself, where it is known.
    """

    def __init__(
        self, forward: Map, adjoint: Map, shape: tuple[int, int], like: Tensor, work: Work,
        matrix: scipy.sparse.csr_array | None = None,
    ) -> None:  # fmt: skip
        self.shape, self.dtype, self.device = shape, like.dtype, like.device
        self.traits = OperatorTraits(symmetric=False)
        self._forward, self._adjoint, self._work, self._matrix = forward, adjoint, work, matrix

    def entries(self) -> scipy.sparse.csr_array | None:
        """Return the sparse matrix; ``None`` where only products are known."""
        return self._matrix

    def matvec(self, x: Tensor) -> Tensor:
        """Return ``J v`` for each row."""
        self._work.matvecs += len(x)
        return torch.stack([self._forward(row) for row in x]) if len(x) else x.new_zeros(0, self.shape[0])

    def rmatvec(self, y: Tensor) -> Tensor:
        """Return ``J' u`` for each row."""
        self._work.matvecs += len(y)
        return torch.stack([self._adjoint(row) for row in y]) if len(y) else y.new_zeros(0, self.shape[1])


def column_norms(jacobian: Operator) -> Tensor:
    """Return the norms of the columns; estimates from products of `PROBES` random sign vectors without entries."""
    entries = jacobian.entries()
    if entries is not None:
        squares = np.asarray(entries.multiply(entries).sum(0)).ravel()
        return torch.from_numpy(np.sqrt(squares)).to(jacobian.device, jacobian.dtype)
    signs = torch.randint(0, 2, (PROBES, jacobian.shape[0]), generator=torch.Generator().manual_seed(0))
    return jacobian.rmatvec(signs.mul_(2).sub_(1).to(jacobian.device, jacobian.dtype)).square().mean(0).sqrt()


class _Gram(Operator):
    """``J'J`` by products with ``J``."""

    def __init__(self, jacobian: Operator) -> None:
        n = jacobian.shape[1]
        self.shape, self.dtype, self.device = (n, n), jacobian.dtype, jacobian.device
        self.traits = OperatorTraits(symmetric=True)
        self._jacobian = jacobian
        self._entries: scipy.sparse.csr_array | None = None

    def entries(self) -> scipy.sparse.csr_array | None:
        """Return the sparse matrix; ``None`` where only products are known."""
        matrix = self._jacobian.entries()
        if self._entries is None and matrix is not None:
            self._entries = scipy.sparse.csr_array(matrix.T @ matrix)
            self._entries.sort_indices()
        return self._entries

    def matvec(self, x: Tensor) -> Tensor:
        """Return ``J'J v`` for each row."""
        return self._jacobian.rmatvec(self._jacobian.matvec(x))


class ProductSquares(Objective):
    """``||r(x)||^2 / 2`` in scaled variables ``y = d x``, with the Jacobian by its products.

    For torch functions one graph of the residual at each point serves all products: ``J'u`` by a backward pass, and
    ``J v`` by a backward pass through ``J'u``, which is linear in ``u``.

    Args:
        function: Maps ``[n]`` to the residuals ``[m]``.
        given: Maps ``[n]`` to a matrix with products (sparse, dense, or SciPy's ``LinearOperator``); ``None``
            differentiates ``function`` by autograd.
        work: The account to charge.
        scale: ``d``, ``[n]``; ``None`` leaves the variables as they are.
        compressor: Where a Jacobian by autograd has entries, if they are to be recovered; ``None`` leaves it at
            products.
    """

    squares: ClassVar[bool] = True

    def __init__(
        self, function: Residual, given: Callable[[Tensor], Any] | None, *, work: Work, scale: Tensor | None = None,
        compressor: Compressor | None = None,
    ) -> None:  # fmt: skip
        super().__init__(work)
        self._function, self._given, self._scale, self._compressor = function, given, scale, compressor
        self._at: tuple[Tensor, Tensor, Operator] | None = None
        self._last: tuple[Tensor, Tensor] | None = None
        self._gram: tuple[Tensor, Operator] | None = None

    def products_at(self, y: Tensor) -> tuple[Tensor, Operator]:
        """Return residuals and Jacobian by the scaled variables at ``y``, ``[1, n]``."""
        if self._at is None or self._at[0] is not y:
            self.point(y)
        assert self._at is not None
        return self._at[1], self._at[2]

    def hessian(self, y: Tensor) -> Operator:
        """Return the Gauss-Newton approximation of the Hessian, with its entries where those of ``J`` are known."""
        if self._gram is None or self._gram[0] is not y:
            self._gram = y, _Gram(self.products_at(y)[1])
        return self._gram[1]

    def _unscaled(self, y: Tensor) -> Tensor:
        return y if self._scale is None else y / self._scale

    def _value(self, y: Tensor) -> Tensor:
        with torch.no_grad():
            r = self._function(self._unscaled(y[0]))
        self._last = y, r
        return r.dot(r) / 2

    def _value_and_gradient(self, y: Tensor) -> tuple[Tensor, Tensor]:
        self._at = self._gram = None  # frees the graph of the point before
        known = self._given is not None and self._last is not None and self._last[0] is y
        self.work.losses += not known  # autograd needs a graph, and evaluates anew
        self.work.jacobians += 1
        r, products = self._by_autograd(y[0]) if self._given is None else self._by_given(y, known)
        jacobian: Operator = products if self._compressor is None else self._compressor.recover(products)
        self._at = (y, r, jacobian)
        gradient = jacobian.rmatvec(r[None])
        return r.dot(r) / 2, gradient

    def _by_autograd(self, y: Tensor) -> tuple[Tensor, JacobianProducts]:
        leaf = y.detach().clone().requires_grad_()
        with torch.enable_grad():
            r = self._function(self._unscaled(leaf))
            if not r.requires_grad:
                raise BadInputError(
                    "residual returned values that do not depend on x through torch operations: "
                    "compute them with torch, or pass x0 as a NumPy array"
                )
            u = torch.zeros_like(r, requires_grad=True)
            (pulled,) = torch.autograd.grad(r.dot(u), leaf, create_graph=True)

        def forward(v: Tensor) -> Tensor:
            jv = pull(pulled, u, v)
            return torch.zeros_like(u) if jv is None else jv.detach()

        def adjoint(w: Tensor) -> Tensor:
            jw = pull(r, leaf, w)
            return torch.zeros_like(leaf) if jw is None else jw.detach()

        detached = r.detach()
        return detached, JacobianProducts(forward, adjoint, (r.numel(), y.numel()), detached, self.work)

    def _by_given(self, y: Tensor, known: bool) -> tuple[Tensor, JacobianProducts]:
        assert self._given is not None
        x = self._unscaled(y[0])
        if known and self._last is not None:
            r = self._last[1]
        else:
            with torch.no_grad():
                r = self._function(x)
        matrix = self._given(x)
        if tuple(matrix.shape) != (r.numel(), x.numel()):
            raise BadInputError(
                f"jac returned shape {tuple(matrix.shape)}: it must be [{r.numel()}, {x.numel()}], "
                "a row for each residual"
            )
        transpose, scale = matrix.T, self._scale

        def forward(v: Tensor) -> Tensor:
            return torch.as_tensor(matrix @ (v if scale is None else v / scale).cpu().numpy()).to(r)

        def adjoint(w: Tensor) -> Tensor:
            pulled = torch.as_tensor(transpose @ w.cpu().numpy()).to(r)
            return pulled if scale is None else pulled / scale

        entries = None
        if scipy.sparse.issparse(matrix):
            entries = scipy.sparse.csr_array(matrix)
            entries = entries if scale is None else scipy.sparse.csr_array(entries / scale.numpy(force=True))
        return r, JacobianProducts(forward, adjoint, (r.numel(), x.numel()), r, self.work, entries)
