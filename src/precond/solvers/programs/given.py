"""Nonlinear programs of functions with derivatives of their own."""

from __future__ import annotations

from collections.abc import Callable

import scipy.sparse
import torch
from torch import Tensor

from precond.core import BadInputError, Operator, Site, Work
from precond.operators.compressed import Compressor
from precond.operators.hessian import Hessian, difference_hessian
from precond.solvers.programs.oracle import MatrixJacobian, OracleProgram, SparseJacobian

Scalar = Callable[[Tensor], Tensor]
Product = Callable[[Tensor], Tensor]


class GivenProgram(OracleProgram):
    """Objective and constraints with derivatives of their own, as functions of a flat tensor.

    Args:
        loss: Maps ``[n]`` to 0-d.
        gradient: Maps ``[n]`` to ``[n]``.
        constraints: Maps ``[n]`` to ``[m]``.
        jacobian: Maps ``[n]`` to ``[m, n]``, dense or sparse.
        lower: Lower bounds, ``[n]``.
        upper: Upper bounds, ``[n]``.
        equations: ``m``.
        work: The account to charge; gradients and Jacobians in differences for Hessian products are charged, too.
        curvature: Maps a point and multipliers to products with the known parts of the Lagrangian's Hessian, and the
            gradient of the rest as a function of a point, which is differentiated by differences; ``None`` where
            nothing is left.
        exact: Whether nothing is left.
        rough: The gradient of the rest holds differences itself.
    """

    def __init__(
        self, loss: Scalar, gradient: Scalar, constraints: Scalar,
        jacobian: Callable[[Tensor], Tensor | scipy.sparse.csr_array], lower: Tensor, upper: Tensor, equations: int,
        work: Work | None = None, *,
        curvature: Callable[[Tensor, Tensor], tuple[list[Product], Scalar | None]], exact: bool = False,
        rough: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(lower, upper, equations, work)
        self._loss, self._gradient, self._constraints, self._jacobian = loss, gradient, constraints, jacobian
        self._curvature, self.exact, self._rough = curvature, exact, rough
        self._pattern: Compressor | None = None
        self._last: tuple[Tensor, tuple[Tensor, Tensor]] | None = None

    dense = 1000  # products with users' Hessians come one by one

    def compress(self, x: Tensor) -> bool:
        """Look for sparsity of the Hessian near ``x``; return whether it and the Jacobian will have their entries."""
        if not self.exact or not scipy.sparse.issparse(self._jacobian(x)):
            return False
        generator = torch.Generator().manual_seed(0)
        draw = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x) - 0.5
        weights = torch.randn(self.equations, generator=generator, dtype=torch.float64).to(x)
        found = Compressor(symmetric=True)
        for size in (0.1, 1e-4, 0.0):
            y = (x + size * (1 + x.abs()) * draw).clamp(self.lower, self.upper)
            try:
                hessian = self._hessian(y, weights)
            except Exception:  # users' functions may refuse a point in any way
                if not size:
                    raise
                continue
            if bool(torch.isfinite(hessian.matvec(draw[None])).all()):
                break
        self._pattern = found if found.learn(hessian) else None
        return self._pattern is not None

    def _values_at(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self._last is None or not torch.equal(self._last[0], x):  # a step that was tried is then taken
            self._last = x.clone(), (self._loss(x), self._constraints(x))
        return self._last[1]

    def _site_at(self, x: Tensor) -> Site:
        (loss, c), gradient, rows = self._values_at(x), self._gradient(x), self._jacobian(x)
        if gradient.shape != x.shape:
            raise BadInputError(f"jac returned shape {tuple(gradient.shape)}: it must have {x.numel()} entries like x")
        if tuple(rows.shape) != (c.numel(), x.numel()):
            raise BadInputError(
                f"a constraint's jac returned shape {tuple(rows.shape)}: it must be [{c.numel()}, {x.numel()}], a row "
                "for each constraint"
            )
        jacobian = MatrixJacobian(rows) if isinstance(rows, Tensor) else SparseJacobian(rows, x)
        return Site(x, loss, gradient, c, jacobian)

    def _hessian_at(self, x: Tensor, multipliers: Tensor) -> Operator:
        """Return the Hessian of the Lagrangian from the user's products, what they lack by differences of gradients."""
        products = self._hessian(x, multipliers)
        return products if self._pattern is None else self._pattern.recover(products)

    def known_hessian(self, site: Site, multipliers: Tensor) -> Operator | None:
        """Return what the Hessian of the Lagrangian has products of, ``[n, n]``; ``None`` where it has none."""
        known, _ = self._curvature(site.x, multipliers)
        return Hessian(lambda v: _sum(known, v), site.x, self.work) if known else None

    def _hessian(self, x: Tensor, multipliers: Tensor) -> Operator:
        known, rest = self._curvature(x, multipliers)
        if rest is None:
            return Hessian(lambda v: _sum(known, v), x, self.work)

        def gradient_at(y: Tensor) -> Tensor:
            self.work.gradients += 1
            self.work.jacobians += 1
            return rest(y)

        eps = torch.finfo(x.dtype).eps
        inside = x.clamp(self.lower, self.upper)
        differences = difference_hessian(
            gradient_at, inside, gradient_at(inside), Work(), eps**0.375 if self._rough else None,
            (self.lower, self.upper),
        )  # fmt: skip
        return Hessian(lambda v: _sum(known, v) + differences.matvec(v[None])[0], x, self.work)


def _sum(products: list[Product], v: Tensor) -> Tensor:
    return torch.stack([product(v) for product in products]).sum(0) if products else torch.zeros_like(v)
