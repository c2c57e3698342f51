"""Sums of squares: the oracle behind ``precond.least_squares``."""

from __future__ import annotations

import logging
from typing import ClassVar

import torch
from torch import Tensor

from precond.core import Objective, Operator, Work
from precond.operators.gauss_newton import GaussNewton
from precond.solvers.squares.difference_jacobians import DifferenceJacobian
from precond.solvers.squares.jacobians import Jacobian, Residual, vanishes

logger = logging.getLogger(__name__)


class SquaresObjective(Objective):
    """``||r(x)||^2 / 2``: a loss is a vector of residuals, and a gradient a Jacobian with its residuals.

    Args:
        function: Maps a vector ``[n]`` to the residuals ``[m]``.
        jacobian: How they are differentiated.
        work: The account to charge; residuals evaluated for a difference Jacobian are charged, too.
        twice: Differentiable twice by autograd, so that accelerations cost no further differences.

    Attributes:
        first: Lengths of the columns of the Jacobian that was computed first, ``[n]``.
        held: Variables that bounds hold at the last point with a Jacobian, ``[n]``; ``None`` without bounds.
    """

    squares: ClassVar[bool] = True

    def __init__(
        self, function: Residual, jacobian: Jacobian, *, work: Work | None = None, twice: bool = False
    ) -> None:
        super().__init__(work)
        self._function, self._differentiate, self._twice = function, jacobian, twice
        self._last: tuple[Tensor, Tensor] | None = None
        self._at: tuple[Tensor, Tensor, Tensor] | None = None
        self.first: Tensor | None = None
        self.held: Tensor | None = None

    def refine(self) -> bool:
        """Take differences of the highest order from here on; return whether that changes anything."""
        if not isinstance(self._differentiate, DifferenceJacobian) or self._differentiate.finest:
            return False
        self._differentiate.insist()
        self._at = None
        return True

    def again(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return residuals evaluated anew at ``x``, and the Jacobian there, if differences need not be taken anew.

        They need not where the function says the same of the point as before, bit for bit, as it then says the same of
        all points around it, if they are exact or the residual vanishes to rounding, which rough ones tell as well.
        Derivatives that are no differences are not returned. Nothing is counted.
        """
        known = self._at
        if known is None or not isinstance(self._differentiate, DifferenceJacobian):
            return None
        if not self._differentiate.finest and not vanishes(known[1], known[2], x[0]):
            return None
        if not torch.equal(known[0], x) or not torch.equal(r := self._function(x[0]).detach(), known[1]):
            return None
        return r, known[2]

    def linearization(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return residuals ``[m]`` and Jacobian ``[m, n]`` at ``x``; counted unless it was evaluated there last."""
        if self._at is None or self._at[0] is not x:
            self.point(x)
        assert self._at is not None
        return self._at[1], self._at[2]

    def hessian(self, x: Tensor) -> Operator:
        """Return the Gauss-Newton approximation of the Hessian."""
        return GaussNewton(self.linearization(x)[1])

    def acceleration(self, x: Tensor, d: Tensor) -> Tensor:
        """Return ``J' r_dd``, with ``r_dd`` by forward mode twice, or by differences (GSL's ``h = 0.02``)."""
        r, jacobian = self.linearization(x)
        if self._twice:
            self.work.jacobians += 1

            def along(t: Tensor) -> Tensor:
                return self._function(x[0] + t * d[0])

            zero, one = x.new_zeros(()), x.new_ones(())
            try:
                second = torch.func.jvp(lambda t: torch.func.jvp(along, (t,), (one,))[1], (zero,), (one,))[1]
                return (second @ jacobian)[None]
            except RuntimeError as error:  # some operations have no forward derivative
                logger.info("accelerations are had by differences: %s", error)
                self._twice = False
        h = 0.02
        second = 2 / h * ((self._count(x[0] + h * d[0]) - r) / h - jacobian @ d[0])
        return (second @ jacobian)[None]

    def _count(self, x: Tensor) -> Tensor:
        self.work.losses += 1
        return self._function(x).detach()

    def _value(self, x: Tensor) -> Tensor:
        r = self._function(x[0]).detach()
        self._last = (x, r)
        return r.dot(r) / 2

    def _value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self._last is None or self._last[0] is not x:
            self.work.losses += 1
            self._value(x)
        assert self._last is not None
        r = self._last[1]
        self.work.jacobians += 1
        before = self.work.losses
        jacobian = self._differentiate.at(self._count, x[0], r)
        self.work.differences += self.work.losses - before
        self._at = (x, r, jacobian)
        if self.first is None:
            self.first = torch.linalg.vector_norm(jacobian, dim=0)
        return r.dot(r) / 2, (r @ jacobian)[None]
